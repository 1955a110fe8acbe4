//! What is missing and who provides it: one story per test.

use super::*;
use crate::facts::LogEndKind;
use crate::testing::at;

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
