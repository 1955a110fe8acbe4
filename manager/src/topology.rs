//! Who is who: the dead primary, its survivors, and everyone who may be left aside. Pure.
//!
//! Invariant: a [`Topology`] that exists names a primary that all its survivors replicate from, and every configured
//! server is in exactly one of its lists. Whatever speaks against a failover is a [`Refusal`], before anything changes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{ClusterConfig, HostPort, ServerConfig};
use crate::elect::major_version;
use crate::facts::{Flavor, Identity, Receiver, Replica, ServerFacts};
use crate::observe::{Snapshot, Unknown};
use crate::verdict::{self, AgentEvidence, Evidence, ReplicaEvidence, Verdict};

pub(crate) mod standing;

pub use standing::Standing;

/// Why a failover is refused before it starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// The named primary is no configured server.
    #[error("{wanted} is no server of the configuration")]
    NotConfigured {
        /// What was asked for.
        wanted: String,
    },
    /// The primary lives, or may live.
    #[error("{server} is {verdict}: {seen}")]
    NotDead {
        /// The server.
        server: String,
        /// Verdict.
        verdict: Verdict,
        /// What was seen.
        seen: String,
    },
    /// A replica replicates from somebody else.
    #[error(
        "{server} replicates from {source_address}, not from {wanted}: {wanted} is not the primary of this cluster"
    )]
    NotThePrimary {
        /// The replica.
        server: String,
        /// Its source.
        source_address: HostPort,
        /// The named primary.
        wanted: String,
    },
    /// The named primary is a living replica itself.
    #[error("{server} is a replica of {source_address}, not the primary")]
    PrimaryIsReplica {
        /// The server.
        server: String,
        /// Its source.
        source_address: HostPort,
    },
    /// A living server that is no replica.
    #[error(
        "{server} is alive and no replica: it may be the primary (set ignore_fail to leave it aside)"
    )]
    NotAReplica {
        /// The server.
        server: String,
    },
    /// Nothing is known of a server.
    #[error("{server} cannot be observed (set ignore_fail to leave it aside): {why}")]
    Unobserved {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// A server does not answer SQL.
    #[error("{server} does not answer SQL (set ignore_fail to leave it aside): {why}")]
    NoSql {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// Several channels.
    #[error("{server} has {channels} replication channels; only one per server is handled")]
    SeveralChannels {
        /// The server.
        server: String,
        /// Their number.
        channels: u32,
    },
    /// A survivor's position is not known.
    #[error(
        "{server} reports no executed position in the primary's log, and without GTIDs nothing else tells where it stands (set ignore_fail to leave it aside)"
    )]
    NoPosition {
        /// The server.
        server: String,
    },
    /// A survivor shows no position, and its GTIDs mean nothing in any log that can be read.
    #[error(
        "{server} shows no position in the primary's log, and no log that can be read tells where its GTIDs {gtids} stand: what it lacks may be purged, or only on a host that does not answer (set ignore_fail to leave it aside)"
    )]
    NoPlace {
        /// The server.
        server: String,
        /// What it has.
        gtids: String,
    },
    /// Two survivors have different histories.
    #[error(
        "{one} and {other} have both received transactions that the other lacks, so neither can follow the other: only {one} has {only_one}, only {other} has {only_other}; {one} has {set_of_one}, {other} has {set_of_other} (find out which is right, and set ignore_fail for the other)"
    )]
    TwoLeaders {
        /// A survivor.
        one: String,
        /// Another.
        other: String,
        /// What only the first has.
        only_one: String,
        /// What only the second has.
        only_other: String,
        /// All that the first has received.
        set_of_one: String,
        /// All that the second has received.
        set_of_other: String,
    },
    /// Replication credentials for the repoint were found nowhere.
    #[error(
        "no replication credentials were found for {server}: it could not be pointed at a new primary"
    )]
    NoCredentials {
        /// The server.
        server: String,
    },
    /// Nobody is left.
    #[error("no living replica of {dead} is left")]
    NoSurvivor {
        /// The dead primary.
        dead: String,
    },
    /// The dead primary's log cannot be read and the policy says stop.
    #[error("the agent of {dead} does not answer, and on_unreachable_log is `stop`: {why}")]
    LogUnreachable {
        /// The dead primary.
        dead: String,
        /// What was seen.
        why: String,
    },
    /// The fence cannot be confirmed and too few agents would grant.
    #[error(
        "the agent of {dead} does not answer, so {dead} cannot be held down, and only {granting} of {agents} agents answer: the others could be a majority (say --primary-is-off if it is)"
    )]
    NoMajority {
        /// The dead primary.
        dead: String,
        /// Agents that would grant.
        granting: usize,
        /// Agents configured.
        agents: usize,
    },
    /// The fence cannot be confirmed and another manager may hold the lease up.
    #[error(
        "{dead} cannot be held down, and manager {manager} may hold its lease up: nobody knows when it takes no more writes (say --take-over if that manager runs no more, or --primary-is-off if {dead} is)"
    )]
    HeldUpByAnother {
        /// The dead primary.
        dead: String,
        /// The manager that its lease names.
        manager: String,
    },
    /// The wanted new primary is unfit.
    #[error("{wanted} cannot become the primary: {why}")]
    ForcedUnfit {
        /// The wanted server.
        wanted: String,
        /// Why.
        why: String,
    },
    /// Nobody may become the primary.
    #[error("no survivor can become the primary: {why}")]
    NoCandidate {
        /// Reasons per server.
        why: String,
    },
    /// A script that this failover will call cannot be started.
    #[error("{why} (mend it, or take it out of hooks)")]
    Hook {
        /// Which, and why.
        why: String,
    },
    /// Nobody is there to ask.
    #[error(
        "stdin is no terminal, and --yes was not given: nobody can be asked whether {dead} is dead"
    )]
    NobodyToAsk {
        /// The dead primary.
        dead: String,
    },
}

/// A server that is left aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAside {
    /// The server.
    pub server: String,
    /// Why.
    pub why: String,
    /// It was a primary that an earlier failover has replaced.
    #[serde(default)]
    pub deposed: bool,
}

/// A living replica of the dead primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Name.
    pub server: String,
    /// Where it is.
    pub address: HostPort,
    /// What is known of it.
    pub facts: ServerFacts,
    /// Its replication status. Where its GTIDs reach further than the executed position that it shows, this is that place.
    pub replica: Replica,
    /// Why the executed position is another than the server shows.
    #[serde(default)]
    pub standing: Option<Standing>,
}

impl Survivor {
    /// Why its applier stands still, if because of an error: it is left stopped and unchanged.
    pub fn applier_failed(&self) -> Option<&crate::facts::ThreadError> {
        // An unfinished replay is taken up again, whatever its applier said when it was interrupted.
        if self.facts.unfinished_replay.is_some() {
            return None;
        }
        self.replica.applier_failed()
    }
}

/// The cluster without its primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The dead primary.
    pub dead: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The evidence for that.
    pub evidence: Evidence,
    /// Its agent answers.
    pub dead_agent_answers: bool,
    /// Who the dead primary was, as its agent remembers or its replicas know.
    pub identity: Identity,
    /// Living replicas, in configured order.
    pub survivors: Vec<Survivor>,
    /// Servers left aside.
    pub left_aside: Vec<LeftAside>,
    /// Replicas that already follow the server an earlier run promoted.
    pub following: Vec<String>,
    /// Those of them whose threads both stand still: that run had pointed them there and not started them.
    #[serde(default)]
    pub standing_still: Vec<String>,
    /// MySQL: every GTID that the dead primary's log has ever held; absent if nobody needed to know, or it could not be read.
    #[serde(default)]
    pub dead_ever_held: Option<String>,
}

/// What the operator allows beyond the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Assurances<'a> {
    /// The operator states that the old primary is off.
    pub primary_is_off: bool,
    /// A server that an earlier run for the same dead primary has promoted.
    pub promoted: Option<&'a str>,
    /// Primaries that earlier failovers replaced: they count only as replicas of this one.
    pub deposed: &'a [String],
}

/// Sorts the servers of a snapshot.
///
/// # Errors
/// The first [`Refusal`] in configured order; a living primary first of all.
pub fn sort(
    config: &ClusterConfig,
    dead: &ServerConfig,
    snapshot: &Snapshot,
    assurances: Assurances<'_>,
) -> Result<Topology, Refusal> {
    let evidence = evidence(dead, snapshot);
    let verdict = verdict::judge(&evidence);
    let dead_facts = snapshot.facts(&dead.name);
    if let Some(replica) = dead_facts.and_then(|f| f.replica.as_ref()) {
        return Err(Refusal::PrimaryIsReplica {
            server: dead.name.clone(),
            source_address: source_address(replica),
        });
    }
    let off = assurances.primary_is_off
        && evidence.agent == AgentEvidence::NoAnswer
        && verdict != Verdict::Alive;
    if !verdict.allows_failover() && !off {
        return Err(Refusal::NotDead {
            server: dead.name.clone(),
            verdict,
            seen: verdict::seen(&evidence),
        });
    }
    let mut survivors: Vec<Survivor> = Vec::new();
    let (mut left_aside, mut following) = (Vec::new(), Vec::new());
    let mut standing_still = Vec::new();
    let promoted = assurances
        .promoted
        .and_then(|name| config.servers.iter().find(|s| s.name == name));
    let is_deposed = |server: &ServerConfig| assurances.deposed.contains(&server.name);
    let identity = dead_facts.and_then(|f| f.identity.clone());
    for server in config.servers.iter().filter(|s| s.name != dead.name) {
        match survivor(server, snapshot) {
            Err(Refusal::NotAReplica { .. }) if promoted.is_some_and(|p| p.name == server.name) => {
            }
            Ok(found)
                if promoted.is_some_and(|p| {
                    found.facts.unfinished_replay.is_none()
                        && same_address(&source_address(&found.replica), &p.address)
                }) =>
            {
                if found.replica.receiver == Receiver::Stopped && !found.replica.applier_running {
                    standing_still.push(found.server.clone());
                }
                following.push(found.server);
            }
            Ok(found)
                if is_deposed(server) && !replicates_from(&found, dead, identity.as_ref()) =>
            {
                left_aside.push(LeftAside {
                    server: found.server,
                    why: "an earlier failover replaced it, and it does not follow this primary"
                        .to_owned(),
                    deposed: true,
                });
            }
            Ok(found) => survivors.push(found),
            Err(refusal) if is_deposed(server) => left_aside.push(LeftAside {
                server: server.name.clone(),
                why: format!("an earlier failover replaced it: {refusal}"),
                deposed: true,
            }),
            Err(refusal) if server.ignore_fail => left_aside.push(LeftAside {
                server: server.name.clone(),
                why: refusal.to_string(),
                deposed: false,
            }),
            Err(refusal) => return Err(refusal),
        }
    }
    for survivor in &survivors {
        if !replicates_from(survivor, dead, identity.as_ref()) {
            return Err(Refusal::NotThePrimary {
                server: survivor.server.clone(),
                source_address: source_address(&survivor.replica),
                wanted: dead.name.clone(),
            });
        }
    }
    if survivors.is_empty() && promoted.is_none() {
        return Err(Refusal::NoSurvivor {
            dead: dead.name.clone(),
        });
    }
    // One that has never connected does not know whom it follows.
    let knows = |s: &&Survivor| s.replica.source_server_id != 0;
    let identity = identity
        .or_else(|| {
            let mut told = oldest(&survivors).map(identity_by_replica)?;
            if let Some(who) = survivors.iter().find(knows).filter(|_| told.server_id == 0) {
                told.server_id = who.replica.source_server_id;
                told.server_uuid.clone_from(&who.replica.source_uuid);
            }
            Some(told)
        })
        .unwrap_or_else(nobody);
    let mut topology = Topology {
        dead: dead.name.clone(),
        verdict,
        dead_agent_answers: dead_facts.is_some(),
        evidence,
        identity,
        survivors,
        left_aside,
        following,
        standing_still,
        dead_ever_held: None,
    };
    standing::compare(&mut topology);
    Ok(topology)
}

/// Evidence about one server's life.
pub fn evidence(dead: &ServerConfig, snapshot: &Snapshot) -> Evidence {
    Evidence {
        ping: snapshot.ping.clone(),
        agent: match snapshot.facts(&dead.name) {
            Some(facts) => AgentEvidence::Answered {
                process: facts.process,
                sql_alive: facts.sql_alive(),
                stalled: snapshot.stalled.clone(),
            },
            None => AgentEvidence::NoAnswer,
        },
        replicas: snapshot
            .servers
            .iter()
            .filter(|s| s.server != dead.name)
            .filter_map(|s| {
                let facts = s.facts.as_ref().ok()?;
                let port = snapshot
                    .ports
                    .iter()
                    .find(|(server, _)| *server == s.server)
                    .map(|(_, port)| *port);
                // During a replay the receiver is connected to the local source.
                let receiver = facts
                    .replica
                    .as_ref()
                    .filter(|_| facts.unfinished_replay.is_none())
                    .map(|r| r.receiver);
                (receiver.is_some() || port.is_some()).then(|| ReplicaEvidence {
                    server: s.server.clone(),
                    receiver,
                    port,
                })
            })
            .collect(),
    }
}

fn survivor(server: &ServerConfig, snapshot: &Snapshot) -> Result<Survivor, Refusal> {
    let name = || server.name.clone();
    let unobserved = |why: &Unknown| Refusal::Unobserved {
        server: name(),
        why: why.to_string(),
    };
    let facts = match snapshot.server(&server.name).map(|s| &s.facts) {
        Some(Ok(facts)) => facts,
        Some(Err(why)) => return Err(unobserved(why)),
        None => return Err(unobserved(&Unknown::NotAtAgent)),
    };
    if let Some(why) = &facts.sql_error {
        return Err(Refusal::NoSql {
            server: name(),
            why: why.clone(),
        });
    }
    let Some(replica) = &facts.replica else {
        return Err(Refusal::NotAReplica { server: name() });
    };
    if replica.channels > 1 {
        return Err(Refusal::SeveralChannels {
            server: name(),
            channels: replica.channels,
        });
    }
    // With GTIDs the sets decide.
    if replica.executed.is_none() && !replica.gtid_position {
        return Err(Refusal::NoPosition { server: name() });
    }
    if facts.credentials_source.is_none() && facts.unfinished_replay.is_none() {
        return Err(Refusal::NoCredentials { server: name() });
    }
    Ok(Survivor {
        server: name(),
        address: server.address.clone(),
        facts: facts.clone(),
        replica: replica.clone(),
        standing: None,
    })
}

pub(crate) fn source_address(replica: &Replica) -> HostPort {
    HostPort {
        host: replica.source_host.clone(),
        port: replica.source_port,
    }
}

/// By address, by UUID, or by server id: replicas may know the primary under another name than the configuration.
fn replicates_from(survivor: &Survivor, dead: &ServerConfig, identity: Option<&Identity>) -> bool {
    // A replay was begun only from this primary; the channel points at the local source meanwhile.
    if survivor.facts.unfinished_replay.is_some() {
        return true;
    }
    let replica = &survivor.replica;
    if same_address(&source_address(replica), &dead.address) {
        return true;
    }
    let Some(identity) = identity else {
        return false;
    };
    if !identity.server_uuid.is_empty() && !replica.source_uuid.is_empty() {
        return identity
            .server_uuid
            .eq_ignore_ascii_case(&replica.source_uuid);
    }
    // MariaDB has no UUID; a server id is unique within a replication topology, and the port must agree too.
    identity.server_id != 0
        && identity.server_id == replica.source_server_id
        && replica.source_port == dead.address.port
}

pub(crate) fn same_address(one: &HostPort, other: &HostPort) -> bool {
    if one.port != other.port {
        return false;
    }
    match (one.host.parse::<IpAddr>(), other.host.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => one.host.eq_ignore_ascii_case(&other.host),
    }
}

/// The first of the oldest survivors. A primary is never newer than its replicas, so this one's version is the nearest to
/// the primary's, and every survivor can log in to a source of that version.
fn oldest(survivors: &[Survivor]) -> Option<&Survivor> {
    survivors.iter().min_by_key(|survivor| {
        let own = survivor.facts.identity.as_ref();
        own.and_then(|own| major_version(&own.version))
            .unwrap_or((u32::MAX, u32::MAX))
    })
}

/// Who the primary was, as far as a replica knows: its replicas were made to fit it.
fn identity_by_replica(survivor: &Survivor) -> Identity {
    let own = survivor.facts.identity.as_ref();
    let text = |get: fn(&Identity) -> &String| own.map(get).cloned().unwrap_or_default();
    Identity {
        flavor: own.map_or(Flavor::Mysql, |i| i.flavor),
        version: text(|i| &i.version),
        server_id: survivor.replica.source_server_id,
        server_uuid: survivor.replica.source_uuid.clone(),
        gtid_mode: text(|i| &i.gtid_mode),
        binlog_checksum: text(|i| &i.binlog_checksum),
        log_bin_basename: String::new(),
    }
}

/// Nobody is left who would be told.
fn nobody() -> Identity {
    Identity {
        flavor: Flavor::Mysql,
        version: String::new(),
        server_id: 0,
        server_uuid: String::new(),
        gtid_mode: String::new(),
        binlog_checksum: String::new(),
        log_bin_basename: String::new(),
    }
}

#[cfg(test)]
mod tests;
