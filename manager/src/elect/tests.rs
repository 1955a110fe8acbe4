//! MHA's rules row by row, every reason of unfitness, and the properties that hold for all inputs.

use proptest::prelude::*;

use super::*;
use crate::facts::ThreadError;
use crate::testing::{at, config, survivor_facts, topology, uuid};

/// Those with the highest offset received most.
fn all_of(specs: &str) -> Vec<Candidate> {
    let offset = |spec: &str| spec.split_once('@').unwrap().1.parse::<u64>().unwrap();
    let newest = specs.split(' ').map(offset).max();
    specs
        .split(' ')
        .map(|spec| Candidate {
            is_latest: Some(offset(spec)) == newest,
            ..candidate(spec)
        })
        .collect()
}

fn candidate(spec: &str) -> Candidate {
    // NAME[!][*]@OFFSET: ! preferred, * unfit.
    let (name, _) = spec.split_once('@').unwrap();
    let preferred = name.contains('!');
    let unfit = name.contains('*');
    Candidate {
        server: name.trim_end_matches(['!', '*']).to_owned(),
        candidacy: if preferred {
            Candidacy::Preferred
        } else {
            Candidacy::Allowed
        },
        is_latest: false,
        unfit: if unfit { vec![Unfit::NoBinlog] } else { vec![] },
    }
}

fn decided(specs: &str, priority: bool, forced: Option<&str>) -> Option<(String, Rule)> {
    let candidates = all_of(specs);
    let policy = FailoverPolicy {
        latest_priority: priority,
        ..FailoverPolicy::default()
    };
    let election = decide(&candidates, &policy, forced).ok()?;
    assert_eq!(election.losers.len(), candidates.len() - 1);
    Some((election.winner, election.rule))
}

#[test]
fn table_of_rules() {
    let table = [
        // 1. A forced server that is fit, and nobody else.
        ("a@1 b@2", true, Some("a"), Some(("a", Rule::Forced))),
        ("a*@1 b@2", true, Some("a"), None),
        ("a@1 b@2", true, Some("c"), None),
        // 2. Nobody preferred, nobody unfit: the first latest.
        ("a@1 b@2 c@2", true, None, Some(("b", Rule::FirstLatest))),
        // 3. The first latest that is preferred and fit.
        (
            "a!@1 b@2 c!@2",
            true,
            None,
            Some(("c", Rule::PreferredLatest)),
        ),
        (
            "a!@1 b!*@2 c!@2",
            true,
            None,
            Some(("c", Rule::PreferredLatest)),
        ),
        // 4. The first that is preferred and fit, latest or not.
        ("a@2 b!@1", true, None, Some(("b", Rule::Preferred))),
        ("a@2 b!*@2 c!@1", true, None, Some(("c", Rule::Preferred))),
        ("a!@1 b!@2", false, None, Some(("a", Rule::Preferred))),
        // 5. The first latest that is fit.
        ("a*@1 b@1 c@2", true, None, Some(("c", Rule::FitLatest))),
        ("a@1 b!*@2 c@2", true, None, Some(("c", Rule::FitLatest))),
        // 6. The first that is fit.
        ("a@1 b*@2", true, None, Some(("a", Rule::Fit))),
        ("a@1 b@2", false, None, Some(("a", Rule::Fit))),
        ("a*@1 b@1 c@2", false, None, Some(("b", Rule::Fit))),
        // 7. Nobody.
        ("a*@1 b*@2", true, None, None),
        ("a!*@1", true, None, None),
    ];
    for (specs, priority, forced, expected) in table {
        let expected = expected.map(|(name, rule)| (name.to_owned(), rule));
        assert_eq!(
            decided(specs, priority, forced),
            expected,
            "{specs} {priority} {forced:?}"
        );
    }
}

#[test]
fn a_server_that_is_kept_behind_wins_only_if_it_is_named() {
    let mut delayed = candidate("a!@9");
    delayed.unfit = vec![Unfit::KeptBehind { delay_s: 60 }];
    let both = [delayed.clone(), candidate("b@1")];
    let policy = FailoverPolicy::default();
    let winner = |forced| decide(&both, &policy, forced).map(|election| election.winner);
    assert_eq!(winner(None), Ok("b".to_owned()));
    assert_eq!(winner(Some("a")), Ok("a".to_owned()));
    let Err(Refusal::NoCandidate { why }) = decide(&both[..1], &policy, None) else {
        panic!("nobody is left")
    };
    assert!(why.contains("--new-primary"), "{why}");
    // Naming it does not heal anything else.
    delayed.unfit.push(Unfit::NoBinlog);
    let Err(Refusal::ForcedUnfit { why, .. }) = decide(&[delayed], &policy, Some("a")) else {
        panic!("its binary log is off")
    };
    assert_eq!(why, "its binary log is off");
}

#[test]
fn positions_are_compared_by_number() {
    let mut topology = topology(&[("1:452", "1:452"), ("1:452", "1:452")]);
    for (survivor, read) in topology.survivors.iter_mut().zip([999_999, 1_000_000]) {
        survivor.replica.read = Some(format!("mysql-bin.{read}:500").parse().unwrap());
        survivor.replica.executed.clone_from(&survivor.replica.read);
    }
    let election = elect(&config(3), &topology, None).unwrap();
    assert_eq!(election.latest, ["db3"]);
    assert_eq!(election.winner, "db3");
    assert_eq!(election.received, []);
}

type Change = fn(&mut Topology);

fn why(change: Change) -> Vec<Unfit> {
    let config = config(3);
    let mut topology = topology(&[("1:452", "1:452"), ("1:880", "1:880")]);
    change(&mut topology);
    candidates(&config, &topology).remove(0).unfit
}

fn first(topology: &mut Topology) -> &mut Survivor {
    topology.survivors.first_mut().unwrap()
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
            |t| {
                first(t).replica.applier_running = false;
                first(t).replica.applier_error = Some(ThreadError {
                    errno: 1062,
                    text: "duplicate".into(),
                });
            },
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
            "its applier is too far behind",
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
            "its applier is too far behind",
        ),
        (
            "two files later",
            |t| t.survivors.get_mut(1).unwrap().replica.read = Some(at("3:4")),
            "its applier is too far behind",
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
            "its version 5.7.22 is newer than 5.6.24-log",
        ),
        (
            "newer patch level is no reason",
            |t| first(t).facts.identity.as_mut().unwrap().version = "5.6.51".into(),
            "",
        ),
        (
            "other family",
            |t| {
                first(t).facts.identity.as_mut().unwrap().flavor = crate::facts::Flavor::MariaDb;
            },
            "another family",
        ),
        (
            "filters that the other has not",
            |t| {
                first(t).facts.settings.as_mut().unwrap().replicate_filters =
                    vec!["replicate_do_db=a".into()];
            },
            "it has filters that db3 has not: replicate_do_db=a",
        ),
        (
            "the same filters everywhere",
            |t| {
                for s in &mut t.survivors {
                    s.facts.settings.as_mut().unwrap().replicate_filters =
                        vec!["replicate_do_db=a".into()];
                }
            },
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

#[test]
fn never_is_never_even_if_forced() {
    let mut config = config(3);
    config.servers.get_mut(1).unwrap().candidacy = Candidacy::Never;
    let topology = topology(&[("1:452", "1:452"), ("1:880", "1:880")]);
    let refusal = elect(&config, &topology, Some("db2")).unwrap_err();
    assert!(
        refusal.to_string().contains("candidate: never"),
        "{refusal}"
    );
    assert_eq!(elect(&config, &topology, None).unwrap().winner, "db3");
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

fn any_candidate() -> impl Strategy<Value = (bool, bool, u64)> {
    (any::<bool>(), any::<bool>(), 0u64..4)
}

proptest! {
    /// Against the reference's list, read literally.
    #[test]
    fn the_winner_is_the_one_of_the_reference(
        specs in proptest::collection::vec(any_candidate(), 1..6),
        priority: bool,
    ) {
        let texts: Vec<String> = specs
            .iter()
            .enumerate()
            .map(|(i, (preferred, unfit, offset))| {
                let marks = format!("{}{}", if *preferred { "!" } else { "" }, if *unfit { "*" } else { "" });
                format!("s{i}{marks}@{offset}")
            })
            .collect();
        let candidates = all_of(&texts.join(" "));
        let max = specs.iter().map(|s| s.2).max().unwrap();
        let index = |test: &dyn Fn(&(bool, bool, u64)) -> bool| specs.iter().position(test);
        let no_pref = specs.iter().all(|s| !s.0);
        let no_bad = specs.iter().all(|s| !s.1);
        let expected = if no_pref && no_bad && priority {
            index(&|s| s.2 == max)
        } else {
            None.or_else(|| if priority { index(&|s| s.2 == max && s.0 && !s.1) } else { None })
                .or_else(|| index(&|s| s.0 && !s.1))
                .or_else(|| if priority { index(&|s| s.2 == max && !s.1) } else { None })
                .or_else(|| index(&|s| !s.1))
        };
        let policy = FailoverPolicy { latest_priority: priority, ..FailoverPolicy::default() };
        let winner = decide(&candidates, &policy, None).ok().map(|e| e.winner);
        prop_assert_eq!(winner, expected.map(|i| format!("s{i}")));
    }

    /// Nobody unfit wins, forced or not, and every loser has its reason.
    #[test]
    fn nobody_unfit_wins(specs in proptest::collection::vec(any_candidate(), 1..6), forced in 0usize..6) {
        let texts: Vec<String> = specs
            .iter()
            .enumerate()
            .map(|(i, (_, unfit, offset))| format!("s{i}{}@{offset}", if *unfit { "*" } else { "" }))
            .collect();
        let candidates = all_of(&texts.join(" "));
        let name = format!("s{forced}");
        for forced in [None, Some(name.as_str())] {
            let Ok(election) = decide(&candidates, &FailoverPolicy::default(), forced) else { continue };
            let winner = candidates.iter().find(|c| c.server == election.winner).unwrap();
            prop_assert!(winner.unfit.is_empty());
            prop_assert_eq!(election.losers.len() + 1, candidates.len());
            for (server, lost) in &election.losers {
                let loser = candidates.iter().find(|c| c.server == *server).unwrap();
                prop_assert_eq!(matches!(lost, Lost::Unfit { .. }), !loser.unfit.is_empty());
            }
        }
    }
}
