//! What may stand in the file, key by key; nothing is checked here but names and shapes.

use std::path::PathBuf;

use serde::Deserialize;

use super::raw_hooks::Hooks;
use crate::lease::LeaseMode;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) cluster: String,
    pub(super) manager_name: Option<String>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) tls: Option<proto::tls::TlsPaths>,
    pub(super) plaintext: Option<bool>,
    pub(super) servers: Vec<Server>,
    #[serde(default)]
    pub(super) binlog_servers: Vec<BinlogServer>,
    #[serde(default)]
    pub(super) monitor: Monitor,
    pub(super) lease: Option<LeaseMode>,
    #[serde(default)]
    pub(super) failover: Failover,
    #[serde(default)]
    pub(super) hooks: Hooks,
    pub(super) virtual_ip: Option<VirtualIp>,
}

/// `virtual_ip`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VirtualIp {
    pub(super) address: String,
    pub(super) interface: Option<String>,
}

/// One of `servers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) agent: String,
    pub(super) agent_name: Option<String>,
    pub(super) candidate: Option<Candidate>,
    pub(super) ignore_fail: Option<bool>,
    pub(super) virtual_ip_interface: Option<String>,
}

/// One of `binlog_servers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BinlogServer {
    pub(super) name: String,
    pub(super) agent: String,
    pub(super) agent_name: Option<String>,
}

/// `candidate`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Candidate {
    Preferred,
    Allowed,
    Never,
}

/// `monitor`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Monitor {
    pub(super) preset: Option<Preset>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ssl_mode: Option<SslMode>,
    pub(super) ssl_ca: Option<PathBuf>,
    pub(super) ssl_cert: Option<PathBuf>,
    pub(super) ssl_key: Option<PathBuf>,
    pub(super) ssl_server_name: Option<String>,
    pub(super) ping_type: Option<PingType>,
    pub(super) ping_interval: Option<String>,
    pub(super) ping_timeout: Option<String>,
    pub(super) ping_failures: Option<u32>,
    pub(super) agent_heartbeat: Option<String>,
    pub(super) probe_timeout: Option<String>,
    pub(super) host_limit: Option<String>,
    pub(super) hang_limit: Option<String>,
    pub(super) readiness_interval: Option<String>,
}

/// `monitor.ssl_mode`, in the manual's letters or small ones.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum SslMode {
    #[serde(alias = "disabled")]
    Disabled,
    #[serde(alias = "preferred")]
    Preferred,
    #[serde(alias = "required")]
    Required,
    #[serde(alias = "verify_ca")]
    VerifyCa,
    #[serde(alias = "verify_identity")]
    VerifyIdentity,
}

/// The other `ssl_` keys of `monitor`.
#[derive(Debug, Default)]
pub(super) struct SslFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) server_name: Option<String>,
}

/// `monitor.preset`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Preset {
    Lan,
    Mha,
}

/// `monitor.ping_type`, in MHA's letters or small ones.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum PingType {
    #[serde(alias = "select")]
    Select,
    #[serde(alias = "connect")]
    Connect,
    #[serde(alias = "insert")]
    Insert,
}

/// `failover`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failover {
    pub(super) on_unreachable_log: Option<OnUnreachableLog>,
    pub(super) save_timeout: Option<String>,
    pub(super) progress_timeout: Option<String>,
    pub(super) call_timeout: Option<String>,
    pub(super) connect_timeout: Option<String>,
    pub(super) check_delay: Option<bool>,
    pub(super) max_delay_bytes: Option<u64>,
    pub(super) latest_priority: Option<bool>,
    pub(super) last_failover_window: Option<String>,
    pub(super) fleet_limit: Option<u32>,
    pub(super) fleet_window: Option<String>,
    pub(super) lease_kill_time: Option<String>,
}

/// `failover.on_unreachable_log`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnUnreachableLog {
    Proceed,
    Stop,
}
