//! Who received most by GTIDs, two histories, and errant transactions.

use super::unfitness::first;
use super::*;
use crate::testing::uuid;

/// Survivors by GTID: what each has executed and received, and what the dead primary's log has ever held.
fn by_gtids(survivors: &[(&str, &str)], ever_held: Option<&str>) -> Topology {
    let places: Vec<(&str, &str)> = survivors.iter().map(|_| ("1:452", "1:452")).collect();
    let mut topology = topology(&places);
    for (survivor, (executed, received)) in topology.survivors.iter_mut().zip(survivors) {
        survivor.replica.gtid_position = true;
        survivor.replica.gtid_executed = sets_of(executed);
        survivor.replica.gtid_received = sets_of(received);
    }
    topology.dead_ever_held = ever_held.map(sets_of);
    topology
}

/// `1:1-5,9:7` with server ids for UUIDs; MariaDB positions stay as they are.
fn sets_of(text: &str) -> String {
    let part = |part: &str| match part.split_once(':') {
        Some((server, rest)) => format!("{}:{rest}", uuid(server.parse().unwrap())),
        None => part.to_owned(),
    };
    text.split(',').map(part).collect::<Vec<_>>().join(",")
}

/// Winner and who received most, or what speaks against an election.
fn outcome(topology: &Topology) -> String {
    match elect(&config(topology.survivors.len() + 1), topology, None) {
        Ok(election) => format!("{} of {}", election.winner, election.latest.join(",")),
        Err(Refusal::TwoLeaders {
            one,
            other,
            only_one,
            only_other,
            ..
        }) => format!("{one} {only_one} / {other} {only_other}"),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn table_of_elections_by_gtids() {
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>, &'a str);
    let apart = format!("db2 {} / db3 {}", sets_of("1:7"), sets_of("1:6"));
    let foreign = format!("db2 {} / db3 {}", sets_of("9:7"), sets_of("1:6"));
    let table: &[Row<'_>] = &[
        (
            "executed decides",
            &[("1:1-5", ""), ("1:1-7", "")],
            None,
            "db3 of db3",
        ),
        (
            "what was received counts",
            &[("1:1-5", "1:4-9"), ("1:1-7", "")],
            None,
            "db2 of db2",
        ),
        (
            "a CHANGE emptied what was received",
            &[("1:1-7", ""), ("1:1-5", "1:3-7")],
            None,
            "db2 of db2,db3",
        ),
        (
            "tags count",
            &[("1:1-5", ""), ("1:1-5:t:1", "")],
            None,
            "db3 of db3",
        ),
        (
            "two leaders",
            &[("1:1-5:7", ""), ("1:1-6", "")],
            None,
            &apart,
        ),
        (
            "two leaders of three",
            &[("1:1-5:7", ""), ("1:1-6", ""), ("1:1-5", "")],
            None,
            &apart,
        ),
        (
            "gaps of appliers, which the primary's log explains",
            &[("1:1-5:7", ""), ("1:1-6", "")],
            Some("1:1-9"),
            "db2 of db2,db3",
        ),
        // Errant transactions make a server unfit, and do not make it a leader.
        (
            "of its own",
            &[("1:1-9,2:1", ""), ("1:1-5", "")],
            None,
            "db3 of db2",
        ),
        (
            "of its own, tagged",
            &[("1:1-9,2:t:1", ""), ("1:1-5", "")],
            None,
            "db3 of db2",
        ),
        (
            "of a third server, which the primary never had",
            &[("1:1-5,9:1-7", ""), ("1:1-6,9:1-6", "")],
            Some("1:1-8,9:1-6"),
            "db3 of db3",
        ),
        (
            "of a third server, which the primary had",
            &[("1:1-5,9:1-7", ""), ("1:1-5,9:1-6", "")],
            Some("1:1-8,9:1-7"),
            "db2 of db2",
        ),
        (
            "of a third server, and nobody knows",
            &[("1:1-5,9:1-7", ""), ("1:1-5,9:1-6", "")],
            None,
            "db2 of db2",
        ),
        (
            "of a third server, nobody knows, and the other is ahead",
            &[("1:1-5,9:1-7", ""), ("1:1-6,9:1-6", "")],
            None,
            &foreign,
        ),
        (
            "its own, from the time when it was the primary",
            &[("1:1-5,2:1-3", ""), ("1:1-5,2:1-2", "")],
            Some("1:1-5,2:1-3"),
            "db2 of db2",
        ),
        (
            "the primary lost its end",
            &[("1:1-9", ""), ("1:1-9", "")],
            Some("1:1-5"),
            "db2 of db2,db3",
        ),
    ];
    for (story, survivors, ever_held, expected) in table {
        let topology = by_gtids(survivors, *ever_held);
        assert_eq!(outcome(&topology), *expected, "{story}");
    }
}

#[test]
fn table_of_elections_by_mariadb_positions() {
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let table: &[Row<'_>] = &[
        (
            "executed decides",
            &[("0-1-5", ""), ("0-1-7", "")],
            "db3 of db3",
        ),
        (
            "what was received counts",
            &[("0-1-5", "0-1-9"), ("0-1-7", "0-1-7")],
            "db2 of db2",
        ),
        (
            "two domains",
            &[("0-1-5,1-1-3", ""), ("0-1-5,1-1-4", "")],
            "db3 of db3",
        ),
        (
            "two histories",
            &[("0-1-4", "0-5-5"), ("0-1-5", "0-1-5")],
            "db2 0-5-5 / db3 0-1-5",
        ),
        // Applied in any order, and nobody knows what was received: positions decide.
        (
            "two domains, each ahead in one",
            &[("0-1-6,1-1-3", ""), ("0-1-5,1-1-4", "")],
            "db2 of db2,db3",
        ),
        (
            "the same, as received",
            &[("", "0-1-6,1-1-3"), ("", "0-1-5,1-1-4")],
            "db2 0-1-6 / db3 1-1-4",
        ),
        (
            "a domain that only one names",
            &[("0-1-5,7-1-3", ""), ("0-1-6", "")],
            "db2 of db2,db3",
        ),
    ];
    for (story, survivors, expected) in table {
        let mut topology = by_gtids(survivors, None);
        topology.identity.flavor = crate::facts::Flavor::MariaDb;
        for survivor in &mut topology.survivors {
            let identity = survivor.facts.identity.as_mut().unwrap();
            identity.flavor = crate::facts::Flavor::MariaDb;
            identity.version = "10.11.19-MariaDB".into();
        }
        assert_eq!(outcome(&topology), *expected, "{story}");
    }
}

#[test]
fn two_leaders_stop_the_run_whoever_is_wanted_and_both_sets_are_shown() {
    let topology = by_gtids(&[("1:1-5:7", ""), ("1:1-6", "")], None);
    let refusal = elect(&config(3), &topology, Some("db2")).unwrap_err();
    let text = refusal.to_string();
    for set in ["1:1-5:7", "1:1-6", "1:7", "1:6"] {
        assert!(text.contains(&sets_of(set)), "{set}: {text}");
    }
}

#[test]
fn one_server_by_position_makes_it_an_election_by_position() {
    let mut topology = by_gtids(&[("1:1-5", ""), ("1:1-7", "")], None);
    first(&mut topology).replica.gtid_position = false;
    let election = elect(&config(3), &topology, None).unwrap();
    assert_eq!(election.latest, ["db2", "db3"]);
    assert_eq!(election.received, []);
}

#[test]
fn errant_writes_of_a_mariadb_replica_are_seen_by_their_sequence() {
    let mut topology = topology(&[("1:452", "1:452"), ("1:880", "1:880")]);
    topology.identity.flavor = crate::facts::Flavor::MariaDb;
    for (n, survivor) in topology.survivors.iter_mut().enumerate() {
        let identity = survivor.facts.identity.as_mut().unwrap();
        identity.flavor = crate::facts::Flavor::MariaDb;
        identity.version = "10.11.19-MariaDB".into();
        survivor.replica.gtid_position = true;
        survivor.replica.gtid_executed = "0-1-50".into();
        let own = format!("0-1-50,1-{}-3", n + 2);
        survivor.facts.binlog = Some(crate::facts::OwnBinlog {
            position: None,
            gtid_executed: own,
        });
    }
    let unfit = |t: &Topology| candidates(&config(3), t).remove(0).unfit;
    assert_eq!(
        unfit(&topology),
        [],
        "a domain that is not replicated is its own business"
    );
    let first = topology.survivors.first_mut().unwrap();
    first.facts.binlog.as_mut().unwrap().gtid_executed = "0-2-51".into();
    let found = unfit(&topology);
    assert!(
        matches!(found.first(), Some(Unfit::Errant { gtids }) if gtids == "0-2-51"),
        "{found:?}"
    );
}
