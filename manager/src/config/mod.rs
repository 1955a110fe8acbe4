//! Configuration of a cluster.
//!
//! Two layers: [`raw`] is exactly what may stand in the file, unknown keys refused with line and suggestion;
//! [`resolved`] is what the program needs. A [`ClusterConfig`] that exists is valid: names are unique, addresses
//! parse, secrets have been read from files only their owner can read.

mod binlog_servers;
mod durations;
mod hooks;
mod monitor;
mod mysql_tls;
mod raw;
mod raw_hooks;
mod resolved;
mod secret;
mod suggest;
mod virtual_ip;

use std::path::{Path, PathBuf};

pub use binlog_servers::BinlogServerConfig;
pub use secret::Secret;

pub use monitor::{MonitorConfig, PingType};
pub use mysql_tls::{ClientCertificate, MysqlTls, SslMode};
pub use resolved::{
    AgentEndpoint, Candidacy, ClusterConfig, FailoverPolicy, HostPort, Security, ServerConfig,
    UnreachableLog,
};
pub use virtual_ip::VirtualIp;

/// Why a configuration cannot be used. Nothing was tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not YAML, or not of the right shape; the source names the line.
    #[error("{}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        #[source]
        source: serde_yaml::Error,
    },
    /// A key that does not exist.
    #[error(
        "{}: {message}{}",
        path.display(),
        suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default()
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        message: String,
        /// The nearest key that does exist.
        suggestion: Option<String>,
    },
    /// A value that cannot be used.
    #[error("{}: {key}: expected {expected}, found `{found}`", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Where: `servers[1].agent`.
        key: String,
        /// What would be right.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A file with a secret that others can read.
    #[error("{}: mode {mode:03o} gives access to group or others, expected 600", path.display())]
    SecretMode {
        /// The file.
        path: PathBuf,
        /// Permission bits found.
        mode: u32,
    },
    /// `init_conf_load_script` did not bring settings.
    #[error("{}: {why}", path.display())]
    Hook {
        /// The configuration file.
        path: PathBuf,
        /// What went wrong; shows no value.
        why: String,
    },
    /// Keys or certificates cannot be used.
    #[error("{}: tls", path.display())]
    Tls {
        /// The configuration file.
        path: PathBuf,
        /// Why.
        #[source]
        source: proto::tls::TlsError,
    },
}

/// Reads a configuration file and everything it refers to; runs its `init_conf_load_script`.
///
/// # Errors
/// [`ConfigError`] naming file, key or line.
pub fn load(path: &Path) -> Result<ClusterConfig, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut raw = parse(path, &text)?;
    let loaded = hooks::load(path, &raw)?;
    hooks::overlay(path, &mut raw, &loaded)?;
    resolved::resolve(path, raw, &loaded)
}

fn parse(path: &Path, text: &str) -> Result<raw::Cluster, ConfigError> {
    serde_yaml::from_str(text).map_err(|source| {
        let message = source.to_string();
        match suggest::unknown_key(&message) {
            Some(unknown) => ConfigError::UnknownKey {
                path: path.to_owned(),
                suggestion: unknown.suggestion(),
                message,
            },
            None => ConfigError::Syntax {
                path: path.to_owned(),
                source,
            },
        }
    })
}

#[cfg(test)]
mod hook_tests;
#[cfg(test)]
mod tests;
