//! What is to be done about the lease of a primary that is watched.

use std::collections::BTreeMap;

use proto::lease::Assigned;

use super::{OPERATION, Told, agents, wanted};
use crate::config::{ClusterConfig, ServerConfig};
use crate::record::{self, Another, Seen, TakeOver};

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The cluster.
    pub config: &'a ClusterConfig,
    /// The primary, as it is watched.
    pub primary: &'a ServerConfig,
    /// What the agents told last, by server; those whose streams are not open are absent.
    pub told: &'a BTreeMap<String, Told>,
    /// Agents that are silent still had time enough to be heard.
    pub waited: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The manager answers the states of the primary's agent, in this epoch; never once the cluster is another manager's.
    pub renew: Option<u64>,
    /// Whether the primary is to be named anew.
    pub next: Next,
}

/// Whether the primary is to be named anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Everybody who is heard knows it.
    InOrder,
    /// It is.
    Assign {
        /// Why.
        why: String,
        /// At which agents the cluster is taken over for it.
        take_over: TakeOver,
    },
    /// Not now.
    Wait {
        /// Why not.
        why: String,
    },
}

/// Decides.
#[must_use]
pub fn standing(question: &Question<'_>) -> Standing {
    let Question {
        config,
        primary,
        told,
        ..
    } = question;
    let Some(own) = told.get(&primary.name) else {
        return Standing {
            renew: None,
            next: wait(format!("the agent of {} is not heard", primary.name)),
        };
    };
    let epoch = own.assignment.as_ref().map_or(0, |a| a.epoch.get());
    let newer = newer_primary(question, epoch);
    let held = held_by(question);
    let of_record = of_record(config, told);
    Standing {
        renew: own
            .assignment
            .as_ref()
            .filter(|a| a.primary == primary.name && a.manager == config.manager_name)
            .filter(|_| newer.is_none() && held.is_none() && of_record.is_ok())
            .map(|a| a.epoch.get()),
        next: match (newer, held) {
            (Some(newer), _) => wait(format!(
                "{} was named the primary in epoch {}",
                newer.primary, newer.epoch
            )),
            (None, Some(operation)) => wait(format!("operation {operation} holds the cluster")),
            (None, None) => match of_record {
                Ok(take_over) => next(question, own, epoch, take_over),
                Err(another) => wait(another.to_string()),
            },
        },
    }
}

/// Whether the cluster is this manager's, as the agents tell.
pub fn of_record(
    config: &ClusterConfig,
    told: &BTreeMap<String, Told>,
) -> Result<TakeOver, Another> {
    let seen = told.iter().filter_map(|(server, told)| {
        let server = config.servers.iter().find(|s| s.name == *server)?;
        Some(Seen {
            agent: &server.agent.name,
            epoch: told.epoch,
            manager: told.of_record.as_deref(),
        })
    });
    record::of_record(&config.manager_name, agents(config).len(), seen)
}

fn wait(why: String) -> Next {
    Next::Wait { why }
}

/// An assignment of somebody else that is newer than the primary's own.
fn newer_primary<'a>(question: &Question<'a>, epoch: u64) -> Option<&'a Assigned> {
    question
        .told
        .values()
        .filter_map(|told| told.assignment.as_ref())
        .find(|a| a.epoch.get() > epoch && a.primary != question.primary.name)
}

/// An operation under way. What names a primary only, and was left behind, is none.
fn held_by<'a>(question: &Question<'a>) -> Option<&'a str> {
    question
        .told
        .values()
        .filter_map(|told| told.held_by.as_deref())
        .find(|operation| !operation.starts_with(OPERATION))
}

fn next(question: &Question<'_>, own: &Told, epoch: u64, take_over: TakeOver) -> Next {
    let Question {
        config,
        primary,
        told,
        waited,
    } = question;
    let all = agents(config);
    let right = |a: &Assigned| {
        let mut theirs = a.agents.clone();
        theirs.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        let mut ours = all.clone();
        ours.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        a.primary == primary.name && a.lease == wanted(config) && theirs == ours
    };
    let why = match &own.assignment {
        None => Some(format!("{} was not named the primary yet", primary.name)),
        Some(a) if a.primary != primary.name => {
            Some(format!("{} was the primary before", a.primary))
        }
        Some(a) if !right(a) => Some("the configuration has changed".to_owned()),
        Some(a) if a.manager != config.manager_name => {
            // While that one speaks, it goes on.
            if own.manager_heard {
                return wait(format!("manager {} holds it up", a.manager));
            }
            Some(format!("manager {} is silent", a.manager))
        }
        Some(_) => None,
    };
    let behind = told.iter().find_map(|(server, told)| {
        if told.epoch > epoch {
            Some(format!(
                "epoch {} was claimed at {server} and given back",
                told.epoch
            ))
        } else if told
            .assignment
            .as_ref()
            .is_none_or(|a| a.epoch.get() != epoch)
        {
            Some(format!("{server} does not know it yet"))
        } else {
            None
        }
    });
    let Some(why) = why.or(behind) else {
        return Next::InOrder;
    };
    let heard = all
        .iter()
        .filter(|agent| {
            config
                .servers
                .iter()
                .any(|s| s.agent.name == agent.name && told.contains_key(&s.name))
        })
        .count();
    if heard * 2 <= all.len() {
        return wait(format!("{heard} of {} agents are heard", all.len()));
    }
    if heard < all.len() && !waited {
        return wait("the other agents may be heard soon".to_owned());
    }
    Next::Assign { why, take_over }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;

    fn assigned(
        config: &ClusterConfig,
        primary: &str,
        epoch: u64,
        manager: &str,
    ) -> Option<Assigned> {
        Some(Assigned {
            primary: primary.to_owned(),
            epoch: epoch.try_into().unwrap(),
            operation: format!("assign-{epoch}"),
            manager: manager.to_owned(),
            lease: wanted(config),
            agents: agents(config),
        })
    }

    /// All three know db1 as the primary of epoch 5.
    fn usual(config: &ClusterConfig) -> BTreeMap<String, Told> {
        ["db1", "db2", "db3"]
            .into_iter()
            .map(|server| {
                let told = Told {
                    boot_id: "b".to_owned(),
                    sent: None,
                    epoch: 5,
                    held_by: None,
                    of_record: Some("m1".to_owned()),
                    assignment: assigned(config, "db1", 5, "m1"),
                    manager_heard: true,
                    vouching: 3,
                    lease: crate::lease::ToldLease::None,
                };
                (server.to_owned(), told)
            })
            .collect()
    }

    type Change = fn(&mut ClusterConfig, &mut BTreeMap<String, Told>);

    fn of<'a>(told: &'a mut BTreeMap<String, Told>, server: &str) -> &'a mut Told {
        told.get_mut(server).unwrap()
    }

    /// (what, how it differs from the usual, renewed in, `=` in order, `+` named anew, `-` not now and words of the reason)
    const CASES: &[(&str, Change, Option<u64>, &str)] = &[
        ("as always", |_, _| {}, Some(5), "="),
        (
            "the primary's agent is silent",
            |_, t| drop(t.remove("db1")),
            None,
            "-is not heard",
        ),
        (
            "another one is silent",
            |_, t| drop(t.remove("db3")),
            Some(5),
            "=",
        ),
        (
            "only the primary is heard",
            |_, t| t.retain(|s, _| s == "db1"),
            Some(5),
            "=",
        ),
        (
            "nobody knows it",
            |_, t| {
                for told in t.values_mut() {
                    (told.epoch, told.assignment) = (0, None);
                }
            },
            None,
            "+not named",
        ),
        (
            "nobody knows it and most are silent",
            |_, t| {
                t.retain(|s, _| s == "db1");
                of(t, "db1").assignment = None;
            },
            None,
            "-1 of 3 agents",
        ),
        (
            "one came back that does not know it",
            |_, t| (of(t, "db3").epoch, of(t, "db3").assignment) = (0, None),
            Some(5),
            "+db3 does not know",
        ),
        (
            "the deposed one came back",
            |c, t| of(t, "db3").assignment = assigned(c, "db3", 4, "m1"),
            Some(5),
            "+db3 does not know",
        ),
        (
            "a claim was given back",
            |_, t| {
                for server in ["db2", "db3"] {
                    of(t, server).epoch = 6;
                }
            },
            Some(5),
            "+epoch 6 was claimed at db2",
        ),
        (
            "a failover holds the others",
            |_, t| {
                for server in ["db2", "db3"] {
                    (of(t, server).epoch, of(t, server).held_by) =
                        (6, Some("failover-1".to_owned()));
                }
            },
            None,
            "-failover-1 holds",
        ),
        (
            "an assignment was broken off",
            |_, t| (of(t, "db2").epoch, of(t, "db2").held_by) = (6, Some("assign-6".to_owned())),
            Some(5),
            "+epoch 6",
        ),
        (
            "somebody else made another one the primary",
            |c, t| (of(t, "db2").epoch, of(t, "db2").assignment) = (6, assigned(c, "db2", 6, "m2")),
            None,
            "-db2 was named the primary in epoch 6",
        ),
        (
            "another manager speaks for it",
            |c, t| {
                for told in t.values_mut() {
                    told.assignment = assigned(c, "db1", 5, "m2");
                }
            },
            None,
            "-manager m2 holds it up",
        ),
        (
            "another manager spoke for it",
            |c, t| {
                for told in t.values_mut() {
                    told.assignment = assigned(c, "db1", 5, "m2");
                    told.manager_heard = false;
                }
            },
            None,
            "+manager m2 is silent",
        ),
        (
            "another manager took it over, and was not heard of at the primary",
            |_, t| {
                for server in ["db2", "db3"] {
                    (of(t, server).epoch, of(t, server).of_record) = (6, Some("m2".to_owned()));
                }
            },
            None,
            "-the cluster is of manager m2",
        ),
        (
            "taken over from another manager, which one agent did not hear of",
            |c, t| {
                let db3 = of(t, "db3");
                (db3.epoch, db3.of_record) = (4, Some("m2".to_owned()));
                db3.assignment = assigned(c, "db1", 4, "m2");
            },
            Some(5),
            "+db3 does not know it yet (db3 is taken over)",
        ),
        (
            "switched off",
            |c, _| c.lease = crate::lease::LeaseMode::Off,
            Some(5),
            "+the configuration has changed",
        ),
        (
            "a server was added",
            |c, _| {
                *c = ClusterConfig {
                    servers: config(4).servers,
                    ..c.clone()
                }
            },
            Some(5),
            "+the configuration has changed",
        ),
        (
            "the primary was another one",
            |c, t| {
                for told in t.values_mut() {
                    told.assignment = assigned(c, "db2", 5, "m1");
                }
            },
            None,
            "+db2 was the primary before",
        ),
    ];

    #[test]
    fn table_of_standings() {
        for (what, change, renew, next) in CASES {
            let mut config = config(3);
            let mut told = usual(&config);
            change(&mut config, &mut told);
            let primary = config.servers.first().unwrap();
            let ask = |waited| {
                standing(&Question {
                    config: &config,
                    primary,
                    told: &told,
                    waited,
                })
            };
            let found = ask(true);
            assert_eq!(found.renew, *renew, "{what}");
            let shown = match &found.next {
                Next::InOrder => "=".to_owned(),
                Next::Assign { why, take_over } if take_over.at("db3") => {
                    format!("+{why} (db3 is taken over)")
                }
                Next::Assign { why, .. } => format!("+{why}"),
                Next::Wait { why } => format!("-{why}"),
            };
            let (sign, words) = next.split_at(1);
            assert!(
                shown.starts_with(sign) && shown.contains(words),
                "{what}: {shown}"
            );
            // Nobody is named before the silent ones had their time.
            if told.len() < config.servers.len() && matches!(found.next, Next::Assign { .. }) {
                assert!(matches!(ask(false).next, Next::Wait { .. }), "{what}");
            }
        }
    }
}
