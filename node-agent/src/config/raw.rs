//! The configuration exactly as an operator writes it; nothing is checked here but keys and types.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::source::fault::FaultPlan;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) name: String,
    #[serde(default = "default_listen")]
    pub(super) listen: SocketAddr,
    #[serde(default = "default_state_dir")]
    pub(super) state_dir: PathBuf,
    pub(super) tls: Option<RawTls>,
    #[serde(default)]
    pub(super) plaintext: bool,
    #[serde(default = "default_segment_keep_days")]
    pub(super) segment_keep_days: u32,
    #[serde(default)]
    pub(super) servers: Vec<RawServer>,
    #[serde(default)]
    pub(super) binlog_servers: Vec<RawBinlogServer>,
    /// Not documented to operators.
    #[serde(default)]
    pub(super) testing: RawTesting,
}

/// `testing`: what the scenario tests need of the shipped program.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTesting {
    #[serde(default)]
    pub(super) replay_faults: FaultPlan,
}

/// `tls`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// One of `servers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) socket: PathBuf,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) replication_user: Option<String>,
    pub(super) replication_password_file: Option<PathBuf>,
    pub(super) datadir: Option<PathBuf>,
    pub(super) relay_keep: Option<RawRelayKeep>,
    #[serde(default = "default_disk_probe_ms")]
    pub(super) disk_probe_ms: u32,
}

/// One of `binlog_servers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBinlogServer {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) directory: PathBuf,
}

/// `relay_keep`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRelayKeep {
    pub(super) percent_of_disk: Option<u8>,
    pub(super) days: Option<u32>,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7306))
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/mha-node-agent")
}

fn default_segment_keep_days() -> u32 {
    30
}

fn default_disk_probe_ms() -> u32 {
    1_000
}
