//! The manager's half of a primary's lease: who is to be told what, and when a lease is over. Pure.
//!
//! A primary's agent ends its server's writing when it hears neither its manager nor a majority of the cluster's agents
//! for [`TTL`]. So a manager that cannot reach a primary need not fence it: it claims so many agents that the others are no
//! majority, says nothing more itself, and waits ([`ending`]). [`standing`] says what keeps that true while all is well: every
//! agent has stored the same assignment, of the newest epoch, and the manager answers each state of the primary's agent.
//! [`not_yet`] keeps a daemon that has just begun from acting before anybody can know of a lease; [`status`] is what operators see.
//!
//! Invariants: a word for a lease is given only as long as no agent is known to have granted a newer claim or to know another
//! primary; a wait is counted from moments after which nobody can have held the lease up, all of the manager's own clock.

mod ending;
mod first;
mod standing;
mod status;

use std::time::Duration;

use proto::lease::{Assigned, FEWEST_AGENTS, LeaseAgent};
use serde::{Deserialize, Serialize};

pub use ending::{Granted, KILL_TIME, NoLease, ending};
pub use first::{FirstLook, not_yet};
pub use proto::lease::TTL;
pub use standing::{Next, Question, Standing, of_record, standing};
pub use status::{HeldUpBy, LeaseStatus, status};

use crate::config::{AgentEndpoint, ClusterConfig};

/// How ids of operations begin that name a primary and do nothing else. One that was left behind is nobody's work.
pub const OPERATION: &str = "assign-";

/// `lease:` of the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseMode {
    /// From three agents on.
    #[default]
    Auto,
    /// None.
    Off,
}

/// What an agent's stream told of leases last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Boot id of its host.
    pub boot_id: String,
    /// When it was sent, by a clock of that boot; `None` from an agent that does not say.
    pub sent: Option<Duration>,
    /// Highest epoch that it has granted.
    pub epoch: u64,
    /// The operation that holds the cluster there.
    pub held_by: Option<String>,
    /// Manager of record there: the one that claimed the cluster last.
    pub of_record: Option<String>,
    /// Who the primary is, as it has stored it.
    pub assignment: Option<Assigned>,
    /// It has heard the manager that the assignment names.
    pub manager_heard: bool,
    /// Agents that vouch for its server, itself counted.
    pub vouching: u32,
    /// The lease of its server.
    pub lease: ToldLease,
}

/// The lease of a server as its agent tells of it; moments by the clock of its host, milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToldLease {
    /// None.
    #[default]
    None,
    /// Held.
    Held {
        /// Since when.
        since_unix_ms: u64,
        /// Until when, if nobody is heard any more.
        until_unix_ms: u64,
    },
    /// Lost.
    Lost {
        /// Since when.
        since_unix_ms: u64,
    },
}

/// The agents of a cluster, each once.
#[must_use]
pub fn agents(config: &ClusterConfig) -> Vec<LeaseAgent> {
    let mut endpoints: Vec<&AgentEndpoint> = config.servers.iter().map(|s| &s.agent).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
        .into_iter()
        .map(|endpoint| LeaseAgent {
            name: endpoint.name.clone(),
            address: endpoint.address.clone(),
        })
        .collect()
}

/// Whether the configuration wants a lease.
#[must_use]
pub fn wanted(config: &ClusterConfig) -> bool {
    config.lease == LeaseMode::Auto && agents(config).len() >= FEWEST_AGENTS
}
