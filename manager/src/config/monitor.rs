//! How a primary is watched: `monitor:` of the file, its presets, and what the numbers must satisfy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mysql_tls::{self, MysqlTls};
use super::resolved::Check;
use super::secret::{self, Secret};
use super::{ConfigError, raw};

/// What one ping does (MHA: `ping_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PingType {
    /// `SELECT 1` on a connection that stays.
    Select,
    /// A new connection and `SELECT 1`, every time.
    Connect,
    /// An upsert of one row of `infra.chk_masterha`, which is written to the binary log.
    Insert,
}

impl PingType {
    /// MHA's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Connect => "CONNECT",
            Self::Insert => "INSERT",
        }
    }
}

/// The manager's SQL ping, the agents' streams, and how long evidence must last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorConfig {
    /// MySQL user; with none, a refused login still proves life.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// How its connections are protected.
    pub tls: MysqlTls,
    /// What one ping does.
    pub ping_type: PingType,
    /// From the start of one ping to the start of the next.
    pub ping_interval: Duration,
    /// Longest time for connect, login and answer.
    pub ping_timeout: Duration,
    /// Failed pings in a row before a verdict that no agent has seen happen.
    pub ping_failures: u32,
    /// Longest silence of an agent's stream while all is well.
    pub agent_heartbeat: Duration,
    /// Longest time for a replica's agent to try the primary's port.
    pub probe_timeout: Duration,
    /// How long nothing may be heard of a host before it counts as dead.
    pub host_limit: Duration,
    /// How long a process may answer nobody, or its disk complete no write, before it counts as hung.
    pub hang_limit: Duration,
    /// How often everything a failover depends on is read, so that it is known beforehand.
    pub readiness_interval: Duration,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self::lan()
    }
}

impl MonitorConfig {
    /// For a network whose answers take milliseconds.
    fn lan() -> Self {
        Self {
            user: None,
            password: None,
            tls: MysqlTls::OFF,
            ping_type: PingType::Select,
            ping_interval: Duration::from_millis(500),
            ping_timeout: Duration::from_secs(1),
            ping_failures: 2,
            agent_heartbeat: Duration::from_millis(250),
            probe_timeout: Duration::from_secs(1),
            host_limit: Duration::from_secs(2),
            hang_limit: Duration::from_secs(3),
            readiness_interval: Duration::from_secs(10),
        }
    }

    /// MHA's: four failed pings, three seconds apart; replicas' agents stand for its secondary hosts.
    fn mha() -> Self {
        Self {
            ping_interval: Duration::from_secs(3),
            ping_timeout: Duration::from_secs(3),
            ping_failures: 4,
            agent_heartbeat: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(3),
            host_limit: Duration::from_secs(9),
            hang_limit: Duration::from_secs(12),
            ..Self::lan()
        }
    }

    /// Silence of a stream after which its agent counts as silent: two heartbeats may be lost.
    #[must_use]
    pub fn agent_silence(&self) -> Duration {
        self.agent_heartbeat * 3
    }
}

/// A password that a script has loaded comes before the file's.
pub(super) fn resolve(
    check: &Check<'_>,
    raw: raw::Monitor,
    loaded_password: Option<Secret>,
) -> Result<MonitorConfig, ConfigError> {
    let preset = match raw.preset {
        None | Some(raw::Preset::Lan) => MonitorConfig::lan(),
        Some(raw::Preset::Mha) => MonitorConfig::mha(),
    };
    let config = MonitorConfig {
        user: raw.user,
        password: match (loaded_password, raw.password_file) {
            (Some(password), _) => Some(password),
            (None, Some(file)) => Some(secret::read(&check.relative(file))?),
            (None, None) => None,
        },
        tls: mysql_tls::resolve(
            check,
            raw.ssl_mode,
            raw::SslFiles {
                ca: raw.ssl_ca,
                cert: raw.ssl_cert,
                key: raw.ssl_key,
                server_name: raw.ssl_server_name,
            },
        )?,
        ping_type: match raw.ping_type {
            None => preset.ping_type,
            Some(raw::PingType::Select) => PingType::Select,
            Some(raw::PingType::Connect) => PingType::Connect,
            Some(raw::PingType::Insert) => PingType::Insert,
        },
        ping_interval: check.duration(
            "monitor.ping_interval",
            raw.ping_interval,
            preset.ping_interval,
        )?,
        ping_timeout: check.duration(
            "monitor.ping_timeout",
            raw.ping_timeout,
            preset.ping_timeout,
        )?,
        ping_failures: raw.ping_failures.unwrap_or(preset.ping_failures),
        agent_heartbeat: check.duration(
            "monitor.agent_heartbeat",
            raw.agent_heartbeat,
            preset.agent_heartbeat,
        )?,
        probe_timeout: check.duration(
            "monitor.probe_timeout",
            raw.probe_timeout,
            preset.probe_timeout,
        )?,
        host_limit: check.duration("monitor.host_limit", raw.host_limit, preset.host_limit)?,
        hang_limit: check.duration("monitor.hang_limit", raw.hang_limit, preset.hang_limit)?,
        readiness_interval: check.duration(
            "monitor.readiness_interval",
            raw.readiness_interval,
            preset.readiness_interval,
        )?,
    };
    if !(1..=100).contains(&config.ping_failures) {
        return Err(check.bad(
            "monitor.ping_failures",
            "a number from 1 to 100",
            &config.ping_failures.to_string(),
        ));
    }
    // What an agent accepts.
    let heartbeats = Duration::from_millis(20)..=Duration::from_secs(60);
    if !heartbeats.contains(&config.agent_heartbeat) {
        return Err(check.bad(
            "monitor.agent_heartbeat",
            "a duration from 20ms to 60s",
            &format!("{:?}", config.agent_heartbeat),
        ));
    }
    if config.probe_timeout > Duration::from_secs(30) {
        return Err(check.bad(
            "monitor.probe_timeout",
            "a duration of at most 30s",
            &format!("{:?}", config.probe_timeout),
        ));
    }
    if config.host_limit <= config.agent_silence() {
        return Err(check.bad(
            "monitor.host_limit",
            "more than three times agent_heartbeat",
            &format!("{:?}", config.host_limit),
        ));
    }
    Ok(config)
}
