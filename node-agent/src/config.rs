//! The agent's configuration: what the operator wrote, checked once, then valid by construction.
//!
//! [`Config::load`] reads the YAML file into raw structs that refuse unknown keys ([`raw`]) and turns them into
//! the resolved [`Config`] below. A resolved value exists only if names are well-formed and unique, password
//! files are private to their owner, and plain text is confined to loopback. Relative paths count from the
//! configuration file's folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::tls::TlsPaths;

use crate::source::fault::FaultPlan;

mod error;
mod raw;
mod resolve;
mod secret;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use secret::{Secret, SecretFile};

/// Where the configuration is looked for unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/mha/node-agent.yaml";

/// The whole configuration of one agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the agent, as in its certificate.
    pub name: String,
    /// Address of the gRPC server; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Everything the agent keeps: epochs, holds, channel records, segments. Absolute.
    pub state_dir: PathBuf,
    /// How connections are protected.
    pub security: Security,
    /// How long segments are kept after they were written.
    pub segment_keep: Duration,
    /// Servers of this host, in the order of the file; empty only on the host of a binlog server. Names are unique.
    pub servers: Vec<ServerConfig>,
    /// Directories of this host in which copies of primaries' binary logs are kept; their names are no server's.
    pub binlog_servers: Vec<BinlogServerConfig>,
    /// Faults injected into every replay, from the hidden key `testing.replay_faults`; empty except in tests.
    pub replay_faults: FaultPlan,
}

/// How connections are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// Mutual TLS.
    Tls(TlsPaths),
    /// No TLS; the listen address is loopback.
    PlainText,
}

/// One local server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Name in every call: `db1:3306`.
    pub name: String,
    /// Cluster the server belongs to.
    pub cluster: String,
    /// Unix socket of mysqld.
    pub socket: PathBuf,
    /// Account; `None` means the OS user's name (socket authentication).
    pub user: Option<String>,
    /// File with the account's password; `None` means none.
    pub password_file: Option<SecretFile>,
    /// Replication account for repoints; `None`: as the channel has it.
    pub replication_user: Option<String>,
    /// File with its password.
    pub replication_password_file: Option<SecretFile>,
    /// Data directory; `None`: asked from the server while it lives and remembered.
    pub datadir: Option<PathBuf>,
    /// How long relay logs are kept aside.
    pub relay_keep: RelayKeep,
    /// How often a small file is written and synced in the data and binary log directories; `None`: never.
    pub disk_probe: Option<Duration>,
    /// `<state>/servers/NAME`: where this server's state files are (`remembered.json`, `hold.json`, `channel.json`).
    pub state_dir: PathBuf,
}

/// A directory in which somebody keeps copies of a cluster's primary's binary logs, without a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinlogServerConfig {
    /// Name in every call: `binlog1`.
    pub name: String,
    /// Cluster whose primary is followed.
    pub cluster: String,
    /// The directory. It may come and go: whoever asks for what is in it is told why it cannot be read.
    pub directory: PathBuf,
}

/// Limits of the relay logs kept aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayKeep {
    /// Share of the file system they may take, in percent.
    pub percent_of_disk: u8,
    /// Age at which they are dropped, counted from the last change of the file.
    pub age: Duration,
}

impl Default for RelayKeep {
    fn default() -> Self {
        Self {
            percent_of_disk: 10,
            age: Duration::from_secs(7 * 86_400),
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        Self::parse(&text, path, folder)
    }

    /// Checks the configuration `text`, found at `path` (for messages), with relative paths counted from `folder`.
    pub fn parse(text: &str, path: &Path, folder: &Path) -> Result<Self, ConfigError> {
        let raw: raw::RawConfig =
            serde_yaml::from_str(text).map_err(|source| ConfigError::Syntax {
                path: path.to_path_buf(),
                source,
            })?;
        resolve::resolve(raw, folder)
    }

    /// The server of this name, if the agent has it.
    pub fn server(&self, name: &str) -> Option<&ServerConfig> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// The clusters that servers and binlog servers of this host belong to, each once.
    pub fn clusters(&self) -> Vec<&str> {
        let of_servers = self.servers.iter().map(|server| server.cluster.as_str());
        let of_directories = self.binlog_servers.iter().map(|b| b.cluster.as_str());
        let mut clusters: Vec<&str> = of_servers.chain(of_directories).collect();
        clusters.sort_unstable();
        clusters.dedup();
        clusters
    }

    /// Root of the segment store.
    pub fn segments_dir(&self) -> PathBuf {
        self.state_dir.join("segments")
    }

    /// Folder of the stored epochs.
    pub fn epochs_dir(&self) -> PathBuf {
        self.state_dir.join("epochs")
    }
}
