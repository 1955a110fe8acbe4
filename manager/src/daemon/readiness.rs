//! Readiness: every precondition of a failover true or false with its evidence, and what a failover would do now. Pure.
//!
//! Computed from a snapshot that is read all the time, so that it is known before the incident. What it says of "if the
//! primary died now" is what `topology` and `elect` say of the same snapshot with the primary's death put into it.

use serde::{Deserialize, Serialize};

use crate::config::{ClusterConfig, ServerConfig};
use crate::elect;
use crate::facts::{Process, Receiver, ServerFacts};
use crate::guard::Blocked;
use crate::observe::{ServerView, Snapshot};
use crate::topology::{self, Assurances};
use crate::verdict::{Ping, Port};

/// One precondition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What must be so.
    pub name: String,
    /// Whether it is.
    pub holds: bool,
    /// What was seen.
    pub evidence: String,
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
    /// Preconditions.
    pub conditions: Vec<Condition>,
    /// What would happen.
    pub if_it_died: IfItDied,
}

/// What an explanation is made of.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) config: &'a ClusterConfig,
    pub(super) primary: &'a ServerConfig,
    pub(super) views: &'a [ServerView],
    pub(super) deposed: &'a [String],
    pub(super) permit: Result<(), Blocked>,
    pub(super) unix_ms: u64,
}

/// Explains.
pub(super) fn explain(known: &Known<'_>) -> Explanation {
    let mut conditions = Vec::new();
    for server in &known.config.servers {
        if known.deposed.contains(&server.name) && !follows(known, server) {
            continue;
        }
        conditions.extend(of_server(known, server));
    }
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
    let if_it_died = if_it_died(known);
    Explanation {
        format_version: 1,
        cluster: known.config.cluster.clone(),
        read_unix_ms: known.unix_ms,
        primary: known.primary.name.clone(),
        ready: conditions.iter().all(|c| c.holds) && matches!(if_it_died, IfItDied::Promote { .. }),
        conditions,
        if_it_died,
    }
}

fn condition(name: impl Into<String>, holds: bool, evidence: String) -> Condition {
    Condition {
        name: name.into(),
        holds,
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

fn of_server(known: &Known<'_>, server: &ServerConfig) -> Vec<Condition> {
    let name = &server.name;
    let is_primary = *name == known.primary.name;
    let facts = match known.views.iter().find(|v| v.server == *name) {
        Some(ServerView {
            facts: Ok(facts), ..
        }) => facts,
        Some(ServerView {
            facts: Err(why), ..
        }) => {
            return vec![condition(
                format!("the agent of {name} answers"),
                false,
                why.to_string(),
            )];
        }
        None => {
            let unseen = "it was not read yet".to_owned();
            return vec![condition(
                format!("the agent of {name} answers"),
                false,
                unseen,
            )];
        }
    };
    let mut all = vec![
        condition(
            format!("the agent of {name} answers"),
            true,
            "it does".to_owned(),
        ),
        condition(
            format!("{name} answers SQL"),
            facts.sql_alive(),
            facts
                .sql_error
                .clone()
                .unwrap_or_else(|| "it does".to_owned()),
        ),
    ];
    if let Some(settings) = &facts.settings {
        all.push(condition(
            format!("{name} writes a binary log"),
            settings.log_bin,
            format!("log_bin is {}", on(settings.log_bin)),
        ));
        all.push(condition(
            if is_primary {
                format!("{name} is open for writes")
            } else {
                format!("{name} is read-only")
            },
            settings.read_only != is_primary,
            format!("read_only is {}", on(settings.read_only)),
        ));
    }
    if is_primary {
        return all;
    }
    match &facts.replica {
        None => all.push(condition(
            format!("{name} is a replica"),
            false,
            "it has no source".to_owned(),
        )),
        Some(replica) => {
            let error = |error: &Option<crate::facts::ThreadError>| {
                error
                    .as_ref()
                    .map_or_else(|| "no error".to_owned(), ToString::to_string)
            };
            all.push(condition(
                format!("the receiver of {name} is connected"),
                replica.receiver == Receiver::Running,
                error(&replica.receiver_error),
            ));
            all.push(condition(
                format!("the applier of {name} runs"),
                replica.applier_running,
                error(&replica.applier_error),
            ));
        }
    }
    all.push(condition(
        format!("replication credentials of {name} are known to its agent"),
        facts.credentials_source.is_some(),
        facts
            .credentials_source
            .clone()
            .unwrap_or_else(|| "found nowhere".to_owned()),
    ));
    all
}

fn on(value: bool) -> &'static str {
    if value { "ON" } else { "OFF" }
}

fn if_it_died(known: &Known<'_>) -> IfItDied {
    let refuse = |why: &dyn std::fmt::Display| IfItDied::Refuse {
        why: why.to_string(),
    };
    if let Err(blocked) = &known.permit {
        return refuse(blocked);
    }
    let assurances = Assurances {
        deposed: known.deposed,
        ..Assurances::default()
    };
    let snapshot = with_its_death(known);
    let topology = match topology::sort(known.config, known.primary, &snapshot, assurances) {
        Ok(topology) => topology,
        Err(refusal) => return refuse(&refusal),
    };
    let election = match elect::elect(known.config, &topology, None) {
        Ok(election) => election,
        Err(refusal) => return refuse(&refusal),
    };
    let not_chosen = |server: &String, why: String| NotChosen {
        server: server.clone(),
        why,
    };
    IfItDied::Promote {
        winner: election.winner.clone(),
        rule: election.rule.to_string(),
        losers: election
            .losers
            .iter()
            .map(|(server, lost)| not_chosen(server, lost.to_string()))
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
    match (end, furthest) {
        (Some(end), Some(furthest)) if furthest >= end => {
            format!("nothing when this was read: a replica has received up to {furthest}")
        }
        (Some(end), Some(furthest)) => format!(
            "when this was read, only the primary held what is between {furthest} and {end}"
        ),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, snapshot, survivor_facts};

    fn views() -> Vec<ServerView> {
        let mut views = snapshot(&[("1:452", "1:452"), ("1:880", "1:880")]).servers;
        for view in &mut views {
            if let Ok(facts) = &mut view.facts
                && let Some(replica) = &mut facts.replica
            {
                replica.receiver = Receiver::Running;
            }
        }
        let mut primary = survivor_facts(1, "1:4", "1:4");
        primary.replica = None;
        primary.credentials_source = None;
        primary.settings.as_mut().unwrap().read_only = false;
        primary.binlog = Some(crate::facts::OwnBinlog {
            position: Some(crate::testing::at("1:1308")),
            gtid_executed: String::new(),
        });
        views.get_mut(0).unwrap().facts = Ok(primary);
        views
    }

    fn explained(
        views: &[ServerView],
        permit: Result<(), Blocked>,
        deposed: &[String],
    ) -> Explanation {
        let config = config(3);
        explain(&Known {
            config: &config,
            primary: config.servers.first().unwrap(),
            views,
            deposed,
            permit,
            unix_ms: 1,
        })
    }

    fn failing(explanation: &Explanation) -> Vec<&str> {
        explanation
            .conditions
            .iter()
            .filter(|c| !c.holds)
            .map(|c| c.name.as_str())
            .collect()
    }

    #[test]
    fn a_healthy_cluster_is_ready_and_names_winner_losers_and_loss() {
        let explanation = explained(&views(), Ok(()), &[]);
        assert_eq!(failing(&explanation), Vec::<&str>::new());
        assert!(explanation.ready);
        let IfItDied::Promote {
            winner,
            losers,
            loss_if_host_died,
            ..
        } = &explanation.if_it_died
        else {
            panic!("{explanation:?}")
        };
        assert_eq!(winner, "db3");
        assert_eq!(losers.first().unwrap().server, "db2");
        assert!(
            loss_if_host_died.contains("between mysql-bin.000001:880 and mysql-bin.000001:1308"),
            "{loss_if_host_died}"
        );
    }

    type Change = fn(&mut Vec<ServerView>);

    fn of(views: &mut [ServerView], n: usize) -> &mut ServerFacts {
        views.get_mut(n).unwrap().facts.as_mut().unwrap()
    }

    #[test]
    fn each_condition_can_fail() {
        let table: &[(&str, Change)] = &[
            ("the agent of db3 answers", |v| {
                v.get_mut(2).unwrap().facts = Err(crate::observe::Unknown::NotAtAgent);
            }),
            ("db3 answers SQL", |v| {
                of(v, 2).sql_error = Some("gone".into())
            }),
            ("db2 is read-only", |v| {
                of(v, 1).settings.as_mut().unwrap().read_only = false;
            }),
            ("db1 is open for writes", |v| {
                of(v, 0).settings.as_mut().unwrap().read_only = true;
            }),
            ("db2 writes a binary log", |v| {
                of(v, 1).settings.as_mut().unwrap().log_bin = false;
            }),
            ("db3 is a replica", |v| of(v, 2).replica = None),
            ("the receiver of db3 is connected", |v| {
                of(v, 2).replica.as_mut().unwrap().receiver = Receiver::Connecting;
            }),
            ("the applier of db3 runs", |v| {
                of(v, 2).replica.as_mut().unwrap().applier_running = false;
            }),
            (
                "replication credentials of db3 are known to its agent",
                |v| of(v, 2).credentials_source = None,
            ),
        ];
        for (expected, change) in table {
            let mut views = views();
            change(&mut views);
            let explanation = explained(&views, Ok(()), &[]);
            assert_eq!(failing(&explanation), [*expected]);
            assert!(!explanation.ready);
        }
    }

    #[test]
    fn what_blocks_a_failover_is_what_it_would_say() {
        let blocked = Blocked::Unreadable { why: "x".into() };
        let explanation = explained(&views(), Err(blocked), &[]);
        assert!(matches!(&explanation.if_it_died, IfItDied::Refuse { why } if why.contains("x")));
        assert_eq!(failing(&explanation).len(), 1);
    }

    #[test]
    fn a_deposed_server_is_no_condition_until_it_follows() {
        let mut views = views();
        of(&mut views, 2).replica = None;
        of(&mut views, 2).sql_error = Some("held down".into());
        let explanation = explained(&views, Ok(()), &["db3".to_owned()]);
        assert!(explanation.ready, "{explanation:?}");
    }
}
