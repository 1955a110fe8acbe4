//! One row per refusal, and who counts as a replica of the dead primary.

use super::*;
use crate::facts::{Process, Receiver};
use crate::testing::{config, dead_facts, snapshot, uuid};
use crate::verdict::{Ping, Port};

fn sorted(change: impl FnOnce(&mut ClusterConfig, &mut Snapshot)) -> Result<Topology, Refusal> {
    let mut config = config(3);
    let mut snapshot = snapshot(&[("1:452", "1:452"), ("1:880", "1:880")]);
    change(&mut config, &mut snapshot);
    let dead = config.servers.first().unwrap().clone();
    sort(&config, &dead, &snapshot, Assurances::default())
}

fn facts(snapshot: &mut Snapshot, n: usize) -> &mut ServerFacts {
    snapshot.servers.get_mut(n).unwrap().facts.as_mut().unwrap()
}

fn replica(snapshot: &mut Snapshot, n: usize) -> &mut Replica {
    facts(snapshot, n).replica.as_mut().unwrap()
}

#[test]
fn a_dead_primary_with_two_replicas() {
    let topology = sorted(|_, _| {}).unwrap();
    assert_eq!(topology.dead, "db1");
    assert_eq!(topology.verdict, Verdict::ServerDead);
    let survivors: Vec<&str> = topology
        .survivors
        .iter()
        .map(|s| s.server.as_str())
        .collect();
    assert_eq!(survivors, ["db2", "db3"]);
    assert!(topology.left_aside.is_empty());
}

type Change = fn(&mut ClusterConfig, &mut Snapshot);
type Expected = fn(&Refusal) -> bool;

#[test]
fn table_of_refusals() {
    let table: &[(&str, Change, Expected)] = &[
        (
            "answers SQL",
            |_, s| s.ping = Ping::Answered,
            |r| {
                matches!(
                    r,
                    Refusal::NotDead {
                        verdict: Verdict::Alive,
                        ..
                    }
                )
            },
        ),
        (
            "too many connections",
            |_, s| {
                s.ping = Ping::AnsweredError {
                    errno: 1040,
                    text: "Too many connections".into(),
                }
            },
            |r| {
                matches!(
                    r,
                    Refusal::NotDead {
                        verdict: Verdict::Alive,
                        ..
                    }
                )
            },
        ),
        (
            "alive behind its agent",
            |_, s| facts(s, 0).sql_error = None,
            |r| {
                matches!(
                    r,
                    Refusal::NotDead {
                        verdict: Verdict::Isolated,
                        ..
                    }
                )
            },
        ),
        (
            "a replica is named",
            |_, s| facts(s, 0).replica = Some(crate::testing::replica("1:4", "1:4")),
            |r| matches!(r, Refusal::PrimaryIsReplica { server, .. } if server == "db1"),
        ),
        (
            "replica of another address",
            |_, s| {
                let replica = replica(s, 2);
                replica.source_host = "db9".into();
                replica.source_uuid = uuid(9);
            },
            |r| matches!(r, Refusal::NotThePrimary { server, .. } if server == "db3"),
        ),
        (
            "no replica",
            |_, s| facts(s, 1).replica = None,
            |r| matches!(r, Refusal::NotAReplica { server } if server == "db2"),
        ),
        (
            "SQL dead",
            |_, s| facts(s, 1).sql_error = Some("gone".into()),
            |r| matches!(r, Refusal::NoSql { server, .. } if server == "db2"),
        ),
        (
            "unobserved",
            |_, s| {
                s.servers.get_mut(2).unwrap().facts = Err(Unknown::AgentUnreachable {
                    why: "refused".into(),
                });
            },
            |r| matches!(r, Refusal::Unobserved { server, .. } if server == "db3"),
        ),
        (
            "two channels",
            |_, s| replica(s, 1).channels = 2,
            |r| matches!(r, Refusal::SeveralChannels { channels: 2, .. }),
        ),
        (
            "no position",
            |_, s| replica(s, 1).executed = None,
            |r| matches!(r, Refusal::NoPosition { .. }),
        ),
        (
            "no credentials",
            |_, s| facts(s, 1).credentials_source = None,
            |r| matches!(r, Refusal::NoCredentials { server } if server == "db2"),
        ),
        (
            "nobody left",
            |c, s| {
                for server in &mut c.servers {
                    server.ignore_fail = true;
                }
                facts(s, 1).sql_error = Some("gone".into());
                facts(s, 2).replica = None;
            },
            |r| matches!(r, Refusal::NoSurvivor { dead } if dead == "db1"),
        ),
    ];
    for (story, change, expected) in table {
        let refusal = sorted(*change).expect_err(story);
        assert!(expected(&refusal), "{story}: {refusal:?}");
    }
}

#[test]
fn ignore_fail_leaves_aside_what_would_refuse() {
    let topology = sorted(|c, s| {
        c.servers.get_mut(2).unwrap().ignore_fail = true;
        facts(s, 2).sql_error = Some("gone".into());
    })
    .unwrap();
    assert_eq!(topology.survivors.len(), 1);
    assert_eq!(topology.left_aside.first().unwrap().server, "db3");
}

#[test]
fn ignore_fail_does_not_make_a_replica_of_another_primary_ours() {
    let refusal = sorted(|c, s| {
        c.servers.get_mut(2).unwrap().ignore_fail = true;
        let replica = replica(s, 2);
        replica.source_host = "db9".into();
        replica.source_uuid = uuid(9);
    })
    .unwrap_err();
    assert!(
        matches!(refusal, Refusal::NotThePrimary { .. }),
        "{refusal:?}"
    );
}

#[test]
fn the_primary_is_known_by_address_uuid_or_server_id() {
    let table: &[(&str, Change)] = &[
        ("address", |_, s| {
            facts(s, 0).identity = None;
            replica(s, 1).source_uuid = String::new();
        }),
        ("uuid", |_, s| {
            replica(s, 1).source_host = "primary.example".into()
        }),
        ("server id", |_, s| {
            let replica = replica(s, 1);
            replica.source_host = "primary.example".into();
            replica.source_uuid = String::new();
        }),
        ("unfinished replay", |_, s| {
            let facts = facts(s, 1);
            facts.unfinished_replay = Some("op".into());
            let replica = facts.replica.as_mut().unwrap();
            replica.source_host = "127.0.0.1".into();
            replica.source_port = 9;
            replica.source_uuid = String::new();
            replica.source_server_id = 0;
        }),
    ];
    for (story, change) in table {
        assert!(sorted(*change).is_ok(), "{story}");
    }
}

#[test]
fn without_its_agent_a_primary_is_dead_only_if_nobody_is_connected() {
    let unreachable: fn(&mut Snapshot) = |s| {
        s.servers.get_mut(0).unwrap().facts = Err(Unknown::AgentUnreachable {
            why: "no route".into(),
        });
        s.ping = Ping::NoAnswer { limit_ms: 1000 };
    };
    let topology = sorted(|_, s| unreachable(s)).unwrap();
    assert_eq!(topology.verdict, Verdict::HostDead);
    assert!(!topology.dead_agent_answers);
    assert_eq!(topology.identity.server_id, 1);
    assert_eq!(topology.identity.server_uuid, uuid(1));
    let refusal = sorted(|_, s| {
        unreachable(s);
        replica(s, 2).receiver = Receiver::Running;
    })
    .unwrap_err();
    assert!(matches!(
        refusal,
        Refusal::NotDead {
            verdict: Verdict::Isolated,
            ..
        }
    ));
}

#[test]
fn an_unreachable_primary_was_as_old_as_its_oldest_replica() {
    for (versions, expected) in [
        (["8.0.15", "5.7.22-log"], "5.7.22-log"),
        (["5.7.22-log", "8.0.15"], "5.7.22-log"),
        (["5.7.22-log", "5.7.44"], "5.7.22-log"),
        (["unknown", "8.0.15"], "8.0.15"),
        (["10.11.19-MariaDB", "10.5.29-MariaDB"], "10.5.29-MariaDB"),
    ] {
        let topology = sorted(|_, s| {
            s.servers.get_mut(0).unwrap().facts = Err(Unknown::AgentUnreachable {
                why: "no route".into(),
            });
            s.ping = Ping::NoAnswer { limit_ms: 1000 };
            for (n, version) in [1, 2].into_iter().zip(versions) {
                facts(s, n).identity.as_mut().unwrap().version = version.to_owned();
            }
        });
        assert_eq!(topology.unwrap().identity.version, expected, "{versions:?}");
    }
}

#[test]
fn an_operator_may_state_that_an_unreachable_primary_is_off_but_not_that_a_living_one_is() {
    let config = config(3);
    let dead = config.servers.first().unwrap();
    let mut snapshot = snapshot(&[("1:452", "1:452"), ("1:880", "1:880")]);
    snapshot.servers.get_mut(0).unwrap().facts = Err(Unknown::NotAtAgent);
    replica(&mut snapshot, 2).receiver = Receiver::Running;
    let off = Assurances {
        primary_is_off: true,
        ..Assurances::default()
    };
    assert!(sort(&config, dead, &snapshot, off).is_ok());
    snapshot.ping = Ping::Answered;
    assert!(sort(&config, dead, &snapshot, off).is_err());
    snapshot.ping = Ping::Refused;
    let mut facts = dead_facts();
    facts.sql_error = None;
    facts.process = Process::Running;
    snapshot.servers.get_mut(0).unwrap().facts = Ok(facts);
    assert!(sort(&config, dead, &snapshot, off).is_err());
}

#[test]
fn after_an_earlier_promotion_the_rest_is_what_still_follows_the_dead_primary() {
    let mut config = config(4);
    let dead = config.servers.remove(0);
    config.servers.insert(0, dead.clone());
    let mut snapshot = snapshot(&[("1:452", "1:452"), ("1:880", "1:880"), ("1:880", "1:880")]);
    facts(&mut snapshot, 1).replica = None;
    let followed = replica(&mut snapshot, 3);
    followed.source_host = "db2".into();
    followed.source_uuid = uuid(2);
    let sorted = |promoted| {
        let assurances = Assurances {
            promoted,
            ..Assurances::default()
        };
        sort(&config, &dead, &snapshot, assurances)
    };
    let topology = sorted(Some("db2")).unwrap();
    let names: Vec<&str> = topology
        .survivors
        .iter()
        .map(|s| s.server.as_str())
        .collect();
    assert_eq!(names, ["db3"]);
    assert_eq!(topology.following, ["db4"]);
    assert!(matches!(sorted(None), Err(Refusal::NotAReplica { .. })));
    assert!(matches!(
        sorted(Some("db3")),
        Err(Refusal::NotAReplica { .. })
    ));
}

#[test]
fn a_deposed_server_does_not_stand_in_the_way_and_counts_again_as_a_replica() {
    type Change = fn(&mut Snapshot);
    let table: &[(&str, Change, bool)] = &[
        (
            "it is down",
            |s| facts(s, 2).sql_error = Some("held down".into()),
            false,
        ),
        (
            "its agent is gone",
            |s| {
                s.servers.get_mut(2).unwrap().facts = Err(Unknown::AgentUnreachable {
                    why: "refused".into(),
                });
            },
            false,
        ),
        (
            "it was started and follows nobody",
            |s| facts(s, 2).replica = None,
            false,
        ),
        (
            "it follows somebody else",
            |s| {
                let replica = replica(s, 2);
                replica.source_host = "db9".into();
                replica.source_uuid = uuid(9);
            },
            false,
        ),
        ("it was rebuilt and follows this primary", |_| {}, true),
    ];
    for (story, change, counts) in table {
        let config = config(3);
        let dead = config.servers.first().unwrap();
        let mut snapshot = snapshot(&[("1:452", "1:452"), ("1:880", "1:880")]);
        change(&mut snapshot);
        let deposed = ["db3".to_owned()];
        let assurances = Assurances {
            deposed: &deposed,
            ..Assurances::default()
        };
        let topology = sort(&config, dead, &snapshot, assurances).expect(story);
        assert_eq!(
            topology.survivors.len(),
            1 + usize::from(*counts),
            "{story}"
        );
        assert_eq!(topology.left_aside.is_empty(), *counts, "{story}");
    }
}

#[test]
fn what_replicas_agents_see_of_the_port_outweighs_what_receivers_believe() {
    let seen = |port| {
        sorted(|_, s| {
            s.servers.get_mut(0).unwrap().facts = Err(Unknown::AgentUnreachable {
                why: "no route".into(),
            });
            s.ping = Ping::NoAnswer { limit_ms: 1000 };
            for n in [1, 2] {
                replica(s, n).receiver = Receiver::Running;
            }
            s.ports = vec![("db2".into(), Port::NoAnswer), ("db3".into(), port)];
        })
    };
    let topology = seen(Port::NoAnswer).unwrap();
    assert_eq!(topology.verdict, Verdict::HostDead);
    let refusal = seen(Port::Answered).unwrap_err();
    assert!(refusal.to_string().contains("isolated"), "{refusal}");
}
