//! MHA's rules row by row, and the properties that hold for all inputs; reasons of unfitness and GTIDs in files of their own.

mod gtids;
mod unfitness;

use proptest::prelude::*;

use super::*;
use crate::testing::{config, topology};

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
