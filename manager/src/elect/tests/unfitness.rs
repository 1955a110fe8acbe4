//! Every reason of unfitness, and what is measured for it.

use super::*;
use crate::facts::{Flavor, ThreadError};
use crate::testing::{at, survivor_facts, uuid};
use crate::topology::LeftAside;

type Change = fn(&mut Topology);

fn why(change: Change) -> Vec<Unfit> {
    let config = config(3);
    let mut topology = topology(&[("1:452", "1:452"), ("1:880", "1:880")]);
    change(&mut topology);
    candidates(&config, &topology).remove(0).unfit
}

pub(super) fn first(topology: &mut Topology) -> &mut Survivor {
    topology.survivors.first_mut().unwrap()
}

fn broken(survivor: &mut Survivor) {
    survivor.replica.applier_running = false;
    survivor.replica.applier_error = Some(ThreadError {
        errno: 1062,
        text: "duplicate".into(),
    });
}

fn filtered(survivor: &mut Survivor) {
    let settings = survivor.facts.settings.as_mut().unwrap();
    settings.replicate_filters = vec!["replicate_do_db=a".into()];
}

fn aside(topology: &mut Topology, deposed: bool) {
    topology.left_aside.push(LeftAside {
        server: "db4".into(),
        why: "it does not answer".into(),
        deposed,
    });
}

#[test]
fn table_of_unfitness() {
    let table: &[(&str, Change, &str)] = &[
        ("nothing", |_| {}, ""),
        (
            "binary log off",
            |t| first(t).facts.settings.as_mut().unwrap().log_bin = false,
            "its binary log is off",
        ),
        (
            "settings unknown",
            |t| first(t).facts.settings = None,
            "its binary log is off",
        ),
        (
            "applier error",
            |t| broken(first(t)),
            "its applier stopped with error 1062: duplicate",
        ),
        (
            "an old error of a running applier is no reason",
            |t| {
                first(t).replica.applier_error = Some(ThreadError {
                    errno: 1062,
                    text: "duplicate".into(),
                });
            },
            "",
        ),
        (
            "an applier stopped without error is no reason",
            |t| first(t).replica.applier_running = false,
            "",
        ),
        (
            "an interrupted replay is no reason",
            |t| {
                first(t).replica.applier_running = false;
                first(t).replica.applier_error = Some(ThreadError {
                    errno: 1756,
                    text: "killed".into(),
                });
                first(t).facts.unfinished_replay = Some("op".into());
            },
            "",
        ),
        (
            "too far behind",
            |t| t.survivors.get_mut(1).unwrap().replica.read = Some(at("1:100000453")),
            "its applier is too far behind: executed mysql-bin.000001:452, latest received mysql-bin.000001:100000453: 100000001 bytes in that file, limit 100000000",
        ),
        (
            "exactly at the limit",
            |t| t.survivors.get_mut(1).unwrap().replica.read = Some(at("1:100000452")),
            "",
        ),
        (
            "the primary's log has just rotated",
            |t| t.survivors.get_mut(1).unwrap().replica.read = Some(at("2:4")),
            "",
        ),
        (
            "the later file alone is beyond the limit",
            |t| t.survivors.get_mut(1).unwrap().replica.read = Some(at("2:100000001")),
            "the rest of a file and 100000001 bytes of the next, limit 100000000 of the latter",
        ),
        (
            "two files later",
            |t| t.survivors.get_mut(1).unwrap().replica.read = Some(at("3:4")),
            "latest received mysql-bin.000003:4: 2 files later, limit one file, whatever their sizes",
        ),
        (
            "kept behind on purpose, however far",
            |t| {
                first(t).replica.delay_s = 3600;
                t.survivors.get_mut(1).unwrap().replica.read = Some(at("3:4"));
            },
            "it is kept 3600 s behind on purpose",
        ),
        (
            "newer major version",
            |t| first(t).facts.identity.as_mut().unwrap().version = "5.7.22".into(),
            "its version 5.7.22 is newer than 5.6.24-log of db3, which could not replicate from it",
        ),
        (
            "newer than one that is kept behind, and will follow all the same",
            |t| {
                first(t).facts.identity.as_mut().unwrap().version = "5.7.22".into();
                t.survivors.get_mut(1).unwrap().replica.delay_s = 60;
            },
            "newer than 5.6.24-log of db3",
        ),
        (
            "newer than one whose applier failed, which is left as it is",
            |t| {
                first(t).facts.identity.as_mut().unwrap().version = "5.7.22".into();
                broken(t.survivors.get_mut(1).unwrap());
            },
            "",
        ),
        (
            "newer than one of another family",
            |t| {
                first(t).facts.identity.as_mut().unwrap().version = "10.11.19-MariaDB".into();
                first(t).facts.identity.as_mut().unwrap().flavor = Flavor::MariaDb;
                t.identity.flavor = Flavor::MariaDb;
            },
            "",
        ),
        (
            "newer patch level is no reason",
            |t| first(t).facts.identity.as_mut().unwrap().version = "5.6.51".into(),
            "",
        ),
        (
            "other family",
            |t| {
                first(t).facts.identity.as_mut().unwrap().flavor = Flavor::MariaDb;
            },
            "another family",
        ),
        (
            "filters that the other has not",
            |t| filtered(first(t)),
            "it has filters that db3 has not: replicate_do_db=a; it wins only if --new-primary names it",
        ),
        (
            "filters that a broken one has not, which has what they leave out",
            |t| {
                filtered(first(t));
                broken(t.survivors.get_mut(1).unwrap());
            },
            "it has filters that db3 has not",
        ),
        (
            "the same filters everywhere, but a replica is left aside",
            |t| {
                t.survivors.iter_mut().for_each(filtered);
                aside(t, false);
            },
            "it has filters: replicate_do_db=a; what they leave out may be at db4, which is left aside",
        ),
        (
            "the same filters everywhere, and an earlier primary is left aside",
            |t| {
                t.survivors.iter_mut().for_each(filtered);
                aside(t, true);
            },
            "",
        ),
        (
            "no filters, and a replica is left aside",
            |t| aside(t, false),
            "",
        ),
        (
            "the same filters everywhere",
            |t| t.survivors.iter_mut().for_each(filtered),
            "",
        ),
        (
            "filters of the other are its problem",
            |t| {
                let other = t.survivors.get_mut(1).unwrap();
                other.facts.settings.as_mut().unwrap().binlog_filters =
                    vec!["binlog_do_db=a".into()];
            },
            "",
        ),
        (
            "errant transactions under GTID",
            |t| {
                first(t).replica.gtid_position = true;
                first(t).replica.gtid_executed = format!("{}:1-5,{}:1-2", uuid(1), uuid(2));
                t.survivors.get_mut(1).unwrap().replica.gtid_executed =
                    format!("{}:1-9,{}:1", uuid(1), uuid(2));
            },
            "it holds transactions nobody else has: 00000002-0000-0000-0000-000000000000:2",
        ),
        (
            "own transactions are harmless by position",
            |t| {
                first(t).replica.gtid_executed = format!("{}:1-5,{}:1-2", uuid(1), uuid(2));
                t.survivors.get_mut(1).unwrap().replica.gtid_executed = format!("{}:1-9", uuid(1));
            },
            "",
        ),
        (
            "being ahead is not errant",
            |t| {
                for (s, n) in t.survivors.iter_mut().zip([9, 5]) {
                    s.replica.gtid_position = true;
                    s.replica.gtid_executed = format!("{}:1-{n}", uuid(1));
                }
            },
            "",
        ),
    ];
    for (story, change, expected) in table {
        let why = why(*change);
        let shown: Vec<String> = why.iter().map(ToString::to_string).collect();
        assert_eq!(shown.is_empty(), expected.is_empty(), "{story}: {shown:?}");
        assert!(shown.join("; ").contains(expected), "{story}: {shown:?}");
    }
}

#[test]
fn versions_are_numbers() {
    for (text, expected) in [
        ("5.6.24-log", Some((5, 6))),
        ("10.11.19-MariaDB-log", Some((10, 11))),
        ("5.5.5-10.11.19-MariaDB", Some((10, 11))),
        ("26.10.1.2", Some((26, 10))),
        ("9.7", Some((9, 7))),
        ("x", None),
        ("", None),
    ] {
        assert_eq!(major_version(text), expected, "{text}");
    }
    let newer = survivor_facts(2, "1:4", "1:4");
    assert_eq!(newer.identity.unwrap().version, "5.6.24-log");
}

#[test]
fn one_that_is_too_old_for_the_winner_is_named_and_keeps_nobody_from_winning() {
    let mut topology = topology(&[("1:452", "1:452"), ("1:880", "1:880")]);
    first(&mut topology)
        .facts
        .identity
        .as_mut()
        .unwrap()
        .version = "5.7.22".into();
    broken(topology.survivors.get_mut(1).unwrap());
    let election = elect(&config(3), &topology, None).unwrap();
    assert_eq!(election.winner, "db2");
    let [(server, why)] = election.cannot_follow.as_slice() else {
        panic!("{election:?}")
    };
    assert_eq!(server, "db3");
    assert_eq!(
        why,
        "its version 5.6.24-log is older than 5.7.22 of db2, which it could not follow once it is mended"
    );
    // Of the same version it could.
    first(&mut topology)
        .facts
        .identity
        .as_mut()
        .unwrap()
        .version = "5.6.51".into();
    let election = elect(&config(3), &topology, None).unwrap();
    assert_eq!(election.cannot_follow, []);
    // Not where the winner has not logged what it lacks.
    let settings = first(&mut topology).facts.settings.as_mut().unwrap();
    settings.log_replica_updates = false;
    let election = elect(&config(3), &topology, None).unwrap();
    assert!(
        matches!(election.cannot_follow.as_slice(), [(_, why)] if why.contains("log_slave_updates=OFF")),
        "{election:?}"
    );
}

#[test]
fn a_filtered_server_wins_by_the_operators_word_alone() {
    let mut topology = topology(&[("1:452", "1:452"), ("1:452", "1:452")]);
    filtered(first(&mut topology));
    let mut config = config(3);
    config.servers.get_mut(1).unwrap().candidacy = Candidacy::Preferred;
    let election = elect(&config, &topology, None).unwrap();
    assert_eq!(election.winner, "db3");
    assert_eq!(election.filters, Vec::<String>::new());
    let election = elect(&config, &topology, Some("db2")).unwrap();
    assert_eq!(election.winner, "db2");
    assert_eq!(election.filters, ["replicate_do_db=a"]);
    // Nobody else is left who could.
    broken(topology.survivors.get_mut(1).unwrap());
    let refusal = elect(&config, &topology, None).unwrap_err().to_string();
    assert!(
        refusal.contains("it wins only if --new-primary names it"),
        "{refusal}"
    );
    assert_eq!(
        elect(&config, &topology, Some("db2")).unwrap().winner,
        "db2"
    );
}
