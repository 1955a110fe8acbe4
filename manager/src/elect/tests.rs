//! MHA's rules row by row, every reason of unfitness, and the properties that hold for all inputs.

use proptest::prelude::*;

use super::*;
use crate::facts::ThreadError;
use crate::testing::{at, config, survivor_facts, topology, uuid};

fn candidate(spec: &str) -> Candidate {
    // NAME[!][*]@OFFSET: ! preferred, * unfit.
    let (name, offset) = spec.split_once('@').unwrap();
    let preferred = name.contains('!');
    let unfit = name.contains('*');
    Candidate {
        server: name.trim_end_matches(['!', '*']).to_owned(),
        candidacy: if preferred {
            Candidacy::Preferred
        } else {
            Candidacy::Allowed
        },
        read: Some(at(&format!("1:{offset}"))),
        unfit: if unfit { vec![Unfit::NoBinlog] } else { vec![] },
    }
}

fn decided(specs: &str, priority: bool, forced: Option<&str>) -> Option<(String, Rule)> {
    let candidates: Vec<Candidate> = specs.split(' ').map(candidate).collect();
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
    let candidates: Vec<Candidate> = ["mysql-bin.999999:500", "mysql-bin.1000000:4"]
        .iter()
        .enumerate()
        .map(|(i, p)| Candidate {
            server: i.to_string(),
            candidacy: Candidacy::Allowed,
            read: Some(p.parse().unwrap()),
            unfit: vec![],
        })
        .collect();
    let election = decide(&candidates, &FailoverPolicy::default(), None).unwrap();
    assert_eq!(election.winner, "1");
    assert_eq!(election.latest, ["1"]);
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
        let candidates: Vec<Candidate> = specs
            .iter()
            .enumerate()
            .map(|(i, (preferred, unfit, offset))| {
                let marks = format!("{}{}", if *preferred { "!" } else { "" }, if *unfit { "*" } else { "" });
                candidate(&format!("s{i}{marks}@{offset}"))
            })
            .collect();
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
        let candidates: Vec<Candidate> = specs
            .iter()
            .enumerate()
            .map(|(i, (_, unfit, offset))| candidate(&format!("s{i}{}@{offset}", if *unfit { "*" } else { "" })))
            .collect();
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
