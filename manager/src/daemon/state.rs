//! How a cluster is, in MHA's numbers and in a sentence.

use std::collections::BTreeSet;

use crate::facts::Process;
use crate::lease::LeaseStatus;

/// MHA's state numbers (masterha_check_status), so that people's checks go on working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// 0: the primary answers.
    PingOk,
    /// 2: no manager runs.
    NotRunning,
    /// 10: the primary is not known yet.
    Initializing,
    /// 20: something is wrong, no verdict yet, or one that allows no failover.
    PingFailing,
    /// 21: the primary is dead, the failover has not begun.
    PingFailed,
    /// 30: after a verdict that did not lead to a failover, watching goes on.
    Retrying,
    /// 31: the servers are not what the configuration says.
    ConfigError,
    /// 50: a failover runs.
    FailoverRunning,
    /// 51: a failover failed or was refused.
    FailoverError,
}

impl State {
    /// All, for documentation and tests.
    pub const ALL: [Self; 9] = [
        Self::PingOk,
        Self::NotRunning,
        Self::Initializing,
        Self::PingFailing,
        Self::PingFailed,
        Self::Retrying,
        Self::ConfigError,
        Self::FailoverRunning,
        Self::FailoverError,
    ];

    /// MHA's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::PingOk => 0,
            Self::NotRunning => 2,
            Self::Initializing => 10,
            Self::PingFailing => 20,
            Self::PingFailed => 21,
            Self::Retrying => 30,
            Self::ConfigError => 31,
            Self::FailoverRunning => 50,
            Self::FailoverError => 51,
        }
    }

    /// MHA's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PingOk => "PING_OK",
            Self::NotRunning => "NOT_RUNNING",
            Self::Initializing => "INITIALIZING_MONITOR",
            Self::PingFailing => "PING_FAILING",
            Self::PingFailed => "PING_FAILED",
            Self::Retrying => "RETRYING_MONITOR",
            Self::ConfigError => "CONFIG_ERROR",
            Self::FailoverRunning => "FAILOVER_RUNNING",
            Self::FailoverError => "FAILOVER_ERROR",
        }
    }
}

/// What is heard of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its name.
    pub server: String,
    /// Its agent's stream is open.
    pub agent: bool,
    /// Its process, as last told.
    pub process: Process,
}

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Cluster.
    pub cluster: String,
    /// State.
    pub state: State,
    /// Since when, milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// The watched primary.
    pub primary: Option<String>,
    /// The last sentence for the operator.
    pub sentence: String,
    /// Paused.
    pub paused: bool,
    /// Why a failover would be refused now.
    pub blocked: Option<String>,
    /// Servers that earlier failovers replaced.
    pub deposed: BTreeSet<String>,
    /// Servers, in configured order.
    pub servers: Vec<Heard>,
    /// How it was with each binlog server when it was looked at last; one sentence each.
    pub binlog_servers: Vec<String>,
    /// The lease of the watched primary; absent while none is watched.
    pub lease: Option<LeaseStatus>,
}

impl Status {
    /// Nothing that is worth telling differs: the end of a lease that is held moves all the time.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let same_lease = match (&self.lease, &other.lease) {
            (Some(one), Some(other)) => one.is_like(other),
            (None, None) => true,
            _ => false,
        };
        let other = Self {
            lease: self.lease.clone(),
            ..other.clone()
        };
        same_lease && *self == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_mhas() {
        let numbers: Vec<u8> = State::ALL.iter().map(|s| s.number()).collect();
        assert_eq!(numbers, [0, 2, 10, 20, 21, 30, 31, 50, 51]);
    }
}
