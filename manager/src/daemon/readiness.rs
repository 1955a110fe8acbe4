//! Readiness: every precondition of a failover true or false with its evidence, and what a failover would do now. Pure.
//!
//! Computed from a snapshot that is read all the time, so that it is known before the incident. What it says of "if the
//! primary died now" is what `topology` and `elect` say of the same snapshot with the primary's death put into it.

mod binlog_servers;
mod conditions;
mod expected;
mod remarks;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::binlog_servers::SeenCopies;
use crate::address::SeenAt;

pub use expected::{Expected, Part};

use crate::config::{ClusterConfig, ServerConfig};
use crate::elect::{self, Held};
use crate::facts::{Answer, Process, ServerFacts};
use crate::guard::{Blocked, Past};
use crate::lease::LeaseStatus;
use crate::observe::{ServerView, Snapshot};
use crate::plan;
use crate::record::Another;
use crate::topology::{self, Assurances};
use crate::verdict::{Ping, Port};

/// One precondition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What must be so.
    pub name: String,
    /// Whether it is.
    pub answer: Answer,
    /// What was seen.
    pub evidence: String,
}

impl Condition {
    /// It is known to be so.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.answer == Answer::Yes
    }
}

/// A server that would not become the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotChosen {
    /// The server.
    pub server: String,
    /// Why.
    pub why: String,
}

/// What a failover would do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum IfItDied {
    /// This server would become the primary.
    Promote {
        /// The winner.
        winner: String,
        /// By which rule.
        rule: String,
        /// Why not the others.
        losers: Vec<NotChosen>,
        /// Servers that would take no part.
        left_aside: Vec<NotChosen>,
        /// What would be lost if mysqld alone died.
        loss_if_server_died: String,
        /// What would be lost if its host were gone.
        loss_if_host_died: String,
        /// How long it would take if mysqld alone died.
        time_if_server_died: Expected,
        /// How long it would take if its host were gone.
        time_if_host_died: Expected,
    },
    /// It would be refused.
    Refuse {
        /// Why.
        why: String,
    },
}

/// The explanation of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Version of this format: 1.
    pub format_version: u32,
    /// Cluster.
    pub cluster: String,
    /// When it was read, milliseconds since the Unix epoch.
    pub read_unix_ms: u64,
    /// Primary.
    pub primary: String,
    /// All conditions hold and a failover would find a winner.
    pub ready: bool,
    /// The lease of the primary, as its agent told last.
    #[serde(default)]
    pub lease: Option<LeaseStatus>,
    /// Preconditions.
    pub conditions: Vec<Condition>,
    /// What settings of servers cost in a failover, without standing in its way; one sentence each.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// How it is with each binlog server; one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binlog_servers: Vec<String>,
    /// What would happen.
    pub if_it_died: IfItDied,
    /// What would then become of semi-synchronous replication; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semi_sync: Option<String>,
    /// What the replicas have received by GTIDs, and what each lacks of it; empty unless all follow GTIDs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gtids: Vec<Held>,
}

/// What an explanation is made of.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) config: &'a ClusterConfig,
    pub(super) primary: &'a ServerConfig,
    pub(super) views: &'a [ServerView],
    /// How the manager's own ping ended.
    pub(super) ping: &'a Ping,
    /// What is seen of the virtual IP; empty if there is none.
    pub(super) addresses: &'a [SeenAt],
    /// What is seen of binlog servers, after `views`; empty if there are none.
    pub(super) binlog_servers: &'a [SeenCopies],
    pub(super) deposed: &'a [String],
    pub(super) permit: Result<(), Blocked>,
    /// Earlier operations of the cluster, oldest first.
    pub(super) past: &'a [Past],
    /// The manager of record, if it is another one.
    pub(super) of_another: Option<Another>,
    /// The lease of the primary.
    pub(super) lease: Option<LeaseStatus>,
    /// How long it took to read all this.
    pub(super) reading: Duration,
    pub(super) unix_ms: u64,
}

/// Explains.
pub(super) fn explain(known: &Known<'_>) -> Explanation {
    let mut conditions = Vec::new();
    for server in &known.config.servers {
        if known.deposed.contains(&server.name) && !follows(known, server) {
            continue;
        }
        conditions.extend(conditions::of_server(known, server));
        conditions.extend(conditions::of_address(known, server));
    }
    conditions.extend(binlog_servers::conditions(known));
    conditions.push(conditions::of_ping(known));
    let answering = known.views.iter().filter(|v| v.facts.is_ok()).count();
    conditions.push(condition(
        "a majority of the agents answers",
        answering * 2 > known.views.len(),
        format!("{answering} of {}", known.views.len()),
    ));
    conditions.push(match &known.permit {
        Ok(()) => condition(
            "nothing stands in the way of a failover",
            true,
            "no earlier failover, pause or brake".to_owned(),
        ),
        Err(blocked) => condition(
            "nothing stands in the way of a failover",
            false,
            blocked.to_string(),
        ),
    });
    conditions.push(conditions::of_record(known));
    conditions.extend(conditions::of_lease(known));
    let Would {
        outcome: if_it_died,
        semi_sync,
        gtids,
    } = if_it_died(known);
    Explanation {
        format_version: 1,
        cluster: known.config.cluster.clone(),
        read_unix_ms: known.unix_ms,
        primary: known.primary.name.clone(),
        ready: conditions.iter().all(Condition::holds)
            && matches!(if_it_died, IfItDied::Promote { .. }),
        lease: known.lease.clone(),
        conditions,
        remarks: remarks::of(known),
        binlog_servers: binlog_servers::sentences(known),
        if_it_died,
        semi_sync,
        gtids,
    }
}

fn condition(name: impl Into<String>, holds: bool, evidence: String) -> Condition {
    Condition {
        name: name.into(),
        answer: if holds { Answer::Yes } else { Answer::No },
        evidence,
    }
}

fn facts<'a>(known: &'a Known<'_>, server: &str) -> Option<&'a ServerFacts> {
    let view = known.views.iter().find(|v| v.server == server)?;
    view.facts.as_ref().ok()
}

fn follows(known: &Known<'_>, server: &ServerConfig) -> bool {
    facts(known, &server.name)
        .and_then(|f| f.replica.as_ref())
        .is_some_and(|replica| {
            topology::same_address(&topology::source_address(replica), &known.primary.address)
        })
}

/// What a failover would find and do.
struct Would {
    outcome: IfItDied,
    semi_sync: Option<String>,
    gtids: Vec<Held>,
}

impl Would {
    fn refuse(why: &dyn std::fmt::Display, gtids: Vec<Held>) -> Self {
        let why = why.to_string();
        Self {
            outcome: IfItDied::Refuse { why },
            semi_sync: None,
            gtids,
        }
    }
}

fn if_it_died(known: &Known<'_>) -> Would {
    let assurances = Assurances {
        deposed: known.deposed,
        ..Assurances::default()
    };
    let snapshot = with_its_death(known);
    let topology = match topology::sort(known.config, known.primary, &snapshot, assurances) {
        Ok(topology) => topology,
        Err(refusal) => {
            return match &known.permit {
                Err(blocked) => Would::refuse(blocked, Vec::new()),
                Ok(()) => Would::refuse(&refusal, Vec::new()),
            };
        }
    };
    let gtids = elect::held(&topology);
    if let Err(blocked) = &known.permit {
        return Would::refuse(blocked, gtids);
    }
    let election = match elect::elect(known.config, &topology, None) {
        Ok(election) => election,
        Err(refusal) => return Would::refuse(&refusal, gtids),
    };
    let not_chosen = |server: &String, why: String| NotChosen {
        server: server.clone(),
        why,
    };
    let outcome = IfItDied::Promote {
        winner: election.winner.clone(),
        rule: election.rule.to_string(),
        losers: election
            .losers
            .iter()
            .map(|(server, lost)| {
                let also = election.cannot_follow.iter().find(|(of, _)| of == server);
                let also = also.map(|(_, why)| format!("; {why}")).unwrap_or_default();
                not_chosen(server, format!("{lost}{also}"))
            })
            .collect(),
        left_aside: topology
            .left_aside
            .iter()
            .map(|left| not_chosen(&left.server, left.why.clone()))
            .collect(),
        loss_if_server_died: if facts(known, &known.primary.name).is_some() {
            "nothing: its agent serves what only its disk holds".to_owned()
        } else {
            "unknown: its agent does not answer".to_owned()
        },
        loss_if_host_died: loss(known, &topology),
        time_if_server_died: expected::if_server_died(known, &topology, &election.winner),
        time_if_host_died: expected::if_host_died(known, &topology, &election.winner),
    };
    let semi_sync = plan::semi_sync(&topology, &election.winner);
    Would {
        outcome,
        semi_sync: semi_sync.map(|s| s.to_string()),
        gtids,
    }
}

/// The same snapshot, with the primary dead.
fn with_its_death(known: &Known<'_>) -> Snapshot {
    let mut servers = known.views.to_vec();
    for view in &mut servers {
        if view.server == known.primary.name
            && let Ok(facts) = &mut view.facts
        {
            facts.process = Process::NotRunning;
            facts.sql_error = Some("assumed to be dead".to_owned());
            facts.settings = None;
        }
    }
    let ports = known
        .config
        .servers
        .iter()
        .filter(|s| s.name != known.primary.name)
        .map(|s| (s.name.clone(), Port::Refused))
        .collect();
    Snapshot {
        servers,
        ping: Ping::Refused,
        ports,
        stalled: None,
        claims: Vec::new(),
    }
}

/// What nobody but the primary held when this was read.
fn loss(known: &Known<'_>, topology: &topology::Topology) -> String {
    let end = facts(known, &known.primary.name)
        .and_then(|f| f.binlog.as_ref())
        .and_then(|b| b.position.as_ref());
    let furthest = topology
        .survivors
        .iter()
        .filter_map(|s| s.replica.read.as_ref())
        .max();
    let (Some(end), Some(furthest)) = (end, furthest) else {
        return "unknown".to_owned();
    };
    if furthest >= end {
        return format!("nothing when this was read: a replica has received up to {furthest}");
    }
    match binlog_servers::furthest(known) {
        Some((server, copied)) if copied >= end => {
            format!("nothing when this was read: binlog server {server} holds up to {copied}")
        }
        Some((server, copied)) if copied > furthest => format!(
            "when this was read, only the primary held what is between {copied}, which binlog server {server} holds, and {end}"
        ),
        _ => format!(
            "when this was read, only the primary held what is between {furthest} and {end}"
        ),
    }
}

#[cfg(test)]
mod tests;
