//! What is missing, who provides it, in which order: one story per test, and properties of every plan.

use proptest::prelude::*;

use super::*;
use crate::elect;
use crate::facts::LogEndKind;
use crate::testing::{agents, at, config, holds, topology};

struct Story {
    topology: Topology,
    holdings: Holdings,
}

impl Story {
    /// Replicas (received, executed), their relay logs, the dead log.
    fn new(
        replicas: &[(&str, &str)],
        relay: &[(&[&str], Option<&str>)],
        dead: Option<(&[&str], Option<&str>)>,
    ) -> Self {
        Self {
            topology: topology(replicas),
            holdings: Holdings {
                relay: relay
                    .iter()
                    .zip(2..)
                    .map(|((ranges, last), n)| (format!("db{n}"), holds(ranges, *last)))
                    .collect(),
                dead: match dead {
                    Some((ranges, last)) => DeadLog::Read {
                        survey: Box::new(holds(ranges, last)),
                    },
                    None => DeadLog::Unreachable { why: "gone".into() },
                },
            },
        }
    }

    fn plan(&self) -> Result<Plan, PlanError> {
        let servers = self.topology.survivors.len() + 1;
        let election = elect::elect(&config(servers), &self.topology, Some("db2")).unwrap();
        make(Findings {
            topology: &self.topology,
            election: &election,
            holdings: &self.holdings,
            agents: &agents(servers),
            promoted: None,
            address_script: false,
            await_lease: false,
            assign: &[],
            virtual_ip: None,
        })
    }

    fn pieces(&self) -> Vec<String> {
        let plan = self.plan().unwrap();
        check(&plan);
        plan.pieces
            .iter()
            .map(|p| {
                let logs = match p.logs {
                    Logs::Binary => "tail",
                    Logs::Relay => "diff",
                };
                let short = |p: &BinlogPosition| format!("{}:{}", p.file.sequence(), p.offset);
                format!(
                    "{} {logs} {} {}",
                    p.provider,
                    short(&p.range.from),
                    short(&p.range.to)
                )
            })
            .collect()
    }
}

/// What holds for every plan.
fn check(plan: &Plan) {
    for pair in plan.pieces.windows(2) {
        let [one, next] = pair else { unreachable!() };
        assert_eq!(one.range.to, next.range.from, "pieces meet");
    }
    for piece in &plan.pieces {
        assert!(piece.range.from < piece.range.to, "{piece}");
    }
    if let (Some(first), Some(last)) = (plan.pieces.first(), plan.pieces.last()) {
        assert_eq!(last.range.to, plan.frontier.end);
        let lowest = plan
            .frontier
            .targets
            .iter()
            .filter(|t| t.lacks)
            .map(|t| &t.base)
            .min();
        assert_eq!(Some(&first.range.from), lowest);
    }
    let position =
        |wanted: &dyn Fn(&Act) -> bool| plan.steps.iter().find(|s| wanted(&s.act)).map(|s| s.id);
    let promote = position(&|a| matches!(a, Act::Promote { .. })).unwrap();
    let writable = position(&|a| matches!(a, Act::MakeWritable { .. })).unwrap();
    for step in &plan.steps {
        for before in &step.after {
            assert!(before < &step.id, "steps come after what they wait for");
        }
        match &step.act {
            Act::Repoint { server, .. } => {
                assert!(
                    step.after.contains(&writable),
                    "no repoint before the new primary is open"
                );
                let apply = position(&|a| matches!(a, Act::Apply { server: s, .. } if s == server));
                assert!(step.after.contains(&apply.unwrap()));
            }
            Act::MakeWritable { .. } => assert!(step.after.contains(&promote)),
            Act::Apply { server, pieces, .. } => {
                for piece in pieces {
                    let piece = plan.piece(*piece).unwrap();
                    let served = step.after.iter().any(|id| {
                        let act = &plan.steps.iter().find(|s| s.id == *id).unwrap().act;
                        match act {
                            Act::Pull {
                                piece: p,
                                server: s,
                                ..
                            } => *p == piece.id && s == server,
                            Act::GenerateDiff { piece: p, .. }
                            | Act::SaveBinaryLogs { piece: p, .. } => {
                                *p == piece.id && piece.provider == *server
                            }
                            _ => false,
                        }
                    });
                    assert!(served, "{server} waits for {piece}");
                }
                let compares = plan
                    .steps
                    .iter()
                    .filter(|s| matches!(s.act, Act::Compare { .. }));
                for compare in compares.filter(|_| !pieces.is_empty()) {
                    assert!(
                        step.after.contains(&compare.id),
                        "no replay before the comparison"
                    );
                }
            }
            _ => {}
        }
    }
}

#[test]
fn customers_scenario() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:452")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        Some((&["1:452 1:1308"], Some("1:1308"))),
    );
    assert_eq!(
        story.pieces(),
        ["db3 diff 1:452 1:880", "db1 tail 1:880 1:1308"]
    );
    let plan = story.plan().unwrap();
    let acts: Vec<String> = plan.steps.iter().map(|s| s.act.to_string()).collect();
    assert!(
        acts.iter()
            .any(|a| a.starts_with("compare the event before mysql-bin.000001:880")),
        "{acts:?}"
    );
    assert!(
        acts.iter().any(|a| a == "send piece 1 from db3 to db2"),
        "{acts:?}"
    );
    assert!(
        !acts.iter().any(|a| a == "send piece 1 from db3 to db3"),
        "{acts:?}"
    );
    assert!(
        acts.iter()
            .any(|a| a.starts_with("let db3 apply what it received")),
        "{acts:?}"
    );
    assert!(
        !acts.iter().any(|a| a.starts_with("let db2 apply")),
        "{acts:?}"
    );
}

#[test]
fn nobody_lags_and_nothing_is_cut() {
    let story = Story::new(
        &[("1:880", "1:880"), ("1:880", "1:880")],
        &[
            (&["1:120 1:880"], Some("1:880")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        Some((&["1:452 1:903"], Some("1:880"))),
    );
    assert!(story.pieces().is_empty());
    let plan = story.plan().unwrap();
    assert!(
        plan.steps
            .iter()
            .any(|s| matches!(&s.act, Act::Compare { at: p, .. } if *p == at("1:880"))),
        "the dead disk must still hold the same history"
    );
}

#[test]
fn behind_only_in_applying_needs_no_segment() {
    let story = Story::new(
        &[("1:880", "1:120"), ("1:880", "1:880")],
        &[
            (&["1:120 1:880"], Some("1:880")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        Some((&["1:120 1:880"], Some("1:880"))),
    );
    assert!(story.pieces().is_empty());
}

#[test]
fn a_delayed_replica_is_served_from_its_executed_position() {
    let mut story = Story::new(
        &[("1:880", "1:120"), ("1:880", "1:880")],
        &[
            (&["1:120 1:880"], Some("1:880")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        Some((&["1:120 1:880"], Some("1:880"))),
    );
    story
        .topology
        .survivors
        .first_mut()
        .unwrap()
        .replica
        .delay_s = 3600;
    assert_eq!(story.pieces(), ["db2 diff 1:120 1:880"]);
    let plan = story.plan().unwrap();
    assert!(
        !plan
            .steps
            .iter()
            .any(|s| matches!(s.act, Act::Drain { .. } | Act::Pull { .. }))
    );
}

#[test]
fn only_the_tail_is_missing() {
    let story = Story::new(
        &[("1:880", "1:880"), ("1:880", "1:880")],
        &[
            (&["1:120 1:880"], Some("1:880")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        Some((&["1:880 1:1308"], Some("1:1308"))),
    );
    assert_eq!(story.pieces(), ["db1 tail 1:880 1:1308"]);
}

#[test]
fn a_torn_transaction_is_never_asked_for() {
    // db3 holds half of a transaction that only the dead disk has whole; the dead log ends torn after it.
    let story = Story::new(
        &[("1:452", "1:452"), ("1:950", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:950"], Some("1:880")),
        ],
        Some((&["1:452 1:1200"], Some("1:1094"))),
    );
    assert_eq!(
        story.pieces(),
        ["db3 diff 1:452 1:880", "db1 tail 1:880 1:1094"]
    );
    assert_eq!(story.plan().unwrap().frontier.end, at("1:1094"));
}

#[test]
fn half_a_transaction_that_nobody_has_whole_is_dropped() {
    let story = Story::new(
        &[("1:880", "1:880"), ("1:950", "1:880")],
        &[
            (&["1:120 1:880"], Some("1:880")),
            (&["1:120 1:950"], Some("1:880")),
        ],
        None,
    );
    assert!(story.pieces().is_empty());
    assert_eq!(story.plan().unwrap().frontier.end, at("1:880"));
}

#[test]
fn a_rotate_that_one_executed_is_no_transaction_the_other_lacks() {
    // db3 followed the primary into its next file, db2 stands at the end of the last transaction.
    let story = Story::new(
        &[("1:880", "1:880"), ("2:120", "2:120")],
        &[
            (&["1:120 1:880"], Some("1:880")),
            (&["1:120 2:120"], Some("1:880")),
        ],
        None,
    );
    assert!(story.pieces().is_empty());
    let plan = story.plan().unwrap();
    assert_eq!(plan.frontier.end, at("1:880"));
}

#[test]
fn what_a_survivor_executed_without_a_log_must_be_found_elsewhere() {
    // db3 executed up to 880 and purged its relay logs.
    let lost = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[(&["1:120 1:452"], Some("1:452")), (&[], None)],
        None,
    );
    let error = lost.plan().unwrap_err();
    assert!(
        matches!(&error, PlanError::NotHeld { range, needed_by, .. }
            if range.from == at("1:452") && range.to == at("1:880") && needed_by == "db2"),
        "{error}"
    );
    let found = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[(&["1:120 1:452"], Some("1:452")), (&[], None)],
        Some((&["1:452 1:880"], Some("1:880"))),
    );
    assert_eq!(found.pieces(), ["db1 tail 1:452 1:880"]);
}

#[test]
fn a_hole_in_a_relay_log_is_filled_by_another() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:600", "1:700 1:880"], Some("1:880")),
            (&["1:500 1:880"], Some("1:880")),
        ],
        None,
    );
    assert_eq!(
        story.pieces(),
        ["db3 diff 1:452 1:600", "db4 diff 1:600 1:880"]
    );
}

#[test]
fn files_are_numbers_across_the_sixth_digit() {
    let story = Story::new(
        &[("999999:452", "999999:452"), ("1000000:300", "1000000:300")],
        &[
            (&["999999:120 999999:452"], Some("999999:452")),
            (&["999999:120 1000000:300"], Some("1000000:300")),
        ],
        Some((&["999999:452 1000000:500"], Some("1000000:500"))),
    );
    assert_eq!(
        story.pieces(),
        [
            "db3 diff 999999:452 1000000:300",
            "db1 tail 1000000:300 1000000:500"
        ]
    );
}

#[test]
fn a_dead_primary_that_holds_less_is_not_asked() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        Some((&["1:452 1:666"], Some("1:666"))),
    );
    assert_eq!(story.pieces(), ["db3 diff 1:452 1:880"]);
}

#[test]
fn a_failed_applier_provides_and_is_not_served() {
    let mut story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:300")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        None,
    );
    let failed = story.topology.survivors.get_mut(1).unwrap();
    failed.replica.applier_running = false;
    failed.replica.applier_error = Some(crate::facts::ThreadError {
        errno: 1062,
        text: "duplicate".into(),
    });
    assert_eq!(story.pieces(), ["db3 diff 1:452 1:880"]);
    let plan = story.plan().unwrap();
    assert!(plan.steps.iter().all(|s| !matches!(&s.act, Act::Apply { server, .. } | Act::Repoint { server, .. } if server == "db3")));
}

#[test]
fn servers_of_one_agent_share_their_segments() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        None,
    );
    let election = elect::elect(&config(3), &story.topology, None).unwrap();
    let shared: BTreeMap<String, String> = (1..=3)
        .map(|n| (format!("db{n}"), "127.0.0.1:7306".to_owned()))
        .collect();
    let plan = make(Findings {
        topology: &story.topology,
        election: &election,
        holdings: &story.holdings,
        agents: &shared,
        promoted: None,
        address_script: false,
        await_lease: false,
        assign: &[],
        virtual_ip: None,
    })
    .unwrap();
    assert!(!plan.steps.iter().any(|s| matches!(s.act, Act::Pull { .. })));
}

#[test]
fn a_clean_end_counts_as_read() {
    let mut story = Story::new(
        &[("1:880", "1:880"), ("1:880", "1:880")],
        &[
            (&["1:120 1:880"], Some("1:880")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        Some((&["1:880 1:903"], None)),
    );
    if let DeadLog::Read { survey } = &mut story.holdings.dead {
        survey.end.as_mut().unwrap().kind = LogEndKind::Clean;
    }
    assert!(story.pieces().is_empty(), "only a Stop event follows");
    assert_eq!(story.plan().unwrap().frontier.end, at("1:880"));
}

proptest! {
    /// Whatever stands anywhere: a plan serves every survivor everything known, or names what is missing.
    #[test]
    fn every_plan_is_sound(
        replicas in proptest::collection::vec((0u64..20, 0u64..20, 0u64..20), 1..5),
        dead in proptest::option::of((0u64..20, 0u64..30)),
    ) {
        let offset = |n: u64| format!("1:{}", 120 + n * 10);
        let mut specs = Vec::new();
        let mut relay = Vec::new();
        for (a, b, c) in &replicas {
            let (executed, received) = (*a.min(b), *a.max(b));
            let from = *c.min(&received);
            specs.push((offset(received), offset(executed)));
            relay.push((format!("{} {}", offset(from), offset(received)), from < received, offset(received)));
        }
        let specs: Vec<(&str, &str)> = specs.iter().map(|(r, e)| (r.as_str(), e.as_str())).collect();
        let mut story = Story::new(&specs, &[], None);
        for ((range, any, last), n) in relay.iter().zip(2..) {
            let survey = if *any { holds(&[range], Some(last)) } else { holds(&[], None) };
            story.holdings.relay.insert(format!("db{n}"), survey);
        }
        if let Some((from, to)) = dead.filter(|(from, to)| from < to) {
            let range = format!("{} {}", offset(from), offset(to));
            story.holdings.dead = DeadLog::Read { survey: Box::new(holds(&[&range], Some(&offset(to)))) };
        }
        let mut furthest = story.topology.survivors.iter().map(|s| s.replica.executed.clone().unwrap()).max().unwrap();
        for survey in story.holdings.relay.values().chain(story.holdings.dead.survey()) {
            if let Some(last) = &survey.last_transaction {
                furthest = furthest.max(last.end.clone());
            }
        }
        match story.plan() {
            Ok(plan) => {
                check(&plan);
                prop_assert_eq!(&plan.frontier.end, &furthest);
                for target in &plan.frontier.targets {
                    prop_assert_eq!(target.lacks, target.base < furthest);
                    // Every byte from its base to the end is in a piece, and held by its provider.
                    let mut at = target.base.clone();
                    for piece in plan.pieces.iter().filter(|p| p.range.to > target.base) {
                        prop_assert!(piece.range.from <= at);
                        let survey = match piece.logs {
                            Logs::Relay => story.holdings.relay.get(&piece.provider).unwrap(),
                            Logs::Binary => story.holdings.dead.survey().unwrap(),
                        };
                        prop_assert!(survey.ranges.iter().any(|r| r.from <= piece.range.from && piece.range.to <= r.to));
                        at = piece.range.to.clone();
                    }
                    prop_assert!(at >= furthest);
                }
            }
            Err(PlanError::NotHeld { range, .. }) => {
                // Nobody holds the first byte of what is said to be missing.
                let held = story.holdings.relay.values().chain(story.holdings.dead.survey())
                    .any(|s| s.ranges.iter().any(|r| r.from <= range.from && range.from < r.to)
                        && s.last_transaction.as_ref().is_some_and(|t| t.end > range.from));
                prop_assert!(!held, "{range}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

#[test]
fn nothing_is_opened_before_the_lease_is_over_and_the_new_primary_is_told_first() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        None,
    );
    let election = elect::elect(&config(3), &story.topology, Some("db2")).unwrap();
    let told = ["db1".to_owned(), "db2".to_owned(), "db3".to_owned()];
    let steps = make(Findings {
        topology: &story.topology,
        election: &election,
        holdings: &story.holdings,
        agents: &agents(3),
        promoted: None,
        address_script: true,
        await_lease: true,
        assign: &told,
        virtual_ip: None,
    })
    .unwrap()
    .steps;
    let at = |words: &str| {
        let found: Vec<_> = steps
            .iter()
            .filter(|s| s.act.to_string().contains(words))
            .collect();
        assert_eq!(found.len(), 1, "{words}");
        found[0]
    };
    let wait = at("wait for the end of the lease of db1");
    // The rest goes on meanwhile.
    assert!(wait.after.is_empty());
    assert!(!at("promote db2").after.contains(&wait.id));
    assert!(at("run master_ip_failover_script").after.contains(&wait.id));
    let open = at("open db2 for writes");
    let first = at("tell the agent of db2 that db2 is the primary");
    assert_eq!(first.after, [open.id]);
    for other in ["db1", "db3"] {
        let step = at(&format!("tell the agent of {other} that db2"));
        assert_eq!(step.after, [first.id]);
    }
}

#[test]
fn a_script_brings_the_address_up_between_promotion_and_writes() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        None,
    );
    let election = elect::elect(&config(3), &story.topology, Some("db2")).unwrap();
    let plan_with = |address_script| {
        make(Findings {
            topology: &story.topology,
            election: &election,
            holdings: &story.holdings,
            agents: &agents(3),
            promoted: None,
            address_script,
            await_lease: false,
            assign: &[],
            virtual_ip: None,
        })
        .unwrap()
        .steps
    };
    let without: Vec<Act> = plan_with(false).into_iter().map(|s| s.act).collect();
    let steps = plan_with(true);
    let at = |wanted: fn(&Act) -> bool| steps.iter().find(|s| wanted(&s.act)).unwrap();
    let promote = at(|a| matches!(a, Act::Promote { .. }));
    let hook = at(|a| matches!(a, Act::RunHook { .. }));
    let open = at(|a| matches!(a, Act::MakeWritable { .. }));
    assert_eq!(
        hook.act.to_string(),
        "run master_ip_failover_script --command=start for db2"
    );
    assert_eq!(hook.after, [promote.id]);
    assert_eq!(open.after, [hook.id]);
    let with: Vec<Act> = steps
        .iter()
        .map(|s| s.act.clone())
        .filter(|a| !matches!(a, Act::RunHook { .. }))
        .collect();
    assert_eq!(with, without, "nothing else changes");
}

#[test]
fn the_virtual_ip_comes_up_after_the_writes_and_nothing_waits_for_it() {
    let story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:880")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        None,
    );
    let election = elect::elect(&config(3), &story.topology, Some("db2")).unwrap();
    for holder_fenced in [true, false] {
        let plan = make(Findings {
            topology: &story.topology,
            election: &election,
            holdings: &story.holdings,
            agents: &agents(3),
            promoted: None,
            address_script: false,
            await_lease: false,
            assign: &[],
            virtual_ip: Some(VirtualIpFinding { holder_fenced }),
        })
        .unwrap();
        let open = plan
            .steps
            .iter()
            .find(|s| matches!(s.act, Act::MakeWritable { .. }))
            .unwrap();
        let take = plan
            .steps
            .iter()
            .find(|s| matches!(s.act, Act::TakeAddress { .. }))
            .unwrap();
        let expected = Act::TakeAddress {
            server: "db2".to_owned(),
            holder_fenced,
        };
        assert_eq!(
            (&take.act, take.after.as_slice()),
            (&expected, &[open.id][..])
        );
        assert!(plan.steps.iter().all(|s| !s.after.contains(&take.id)));
        let mut without = plan.steps.clone();
        without.retain(|s| s.id != take.id);
        let acts: Vec<&Act> = without.iter().map(|s| &s.act).collect();
        let plain = story.plan().unwrap();
        assert_eq!(acts, plain.steps.iter().map(|s| &s.act).collect::<Vec<_>>());
    }
}
