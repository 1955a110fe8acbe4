//! Binlog servers: who serves, what is compared first, and what never counts.

use super::*;
use crate::testing::at;

pub(super) fn verified(survey: LogSurvey) -> BinlogServerLog {
    BinlogServerLog::Verified {
        survey: Box::new(survey),
        with: relay_of("db2"),
        at: at("1:452"),
    }
}

pub(super) fn unusable() -> BinlogServerLog {
    BinlogServerLog::Unusable {
        why: "it is of another history".into(),
        up_to: Some(at("9:9999")),
    }
}

fn relay_of(server: &str) -> Source {
    Source {
        server: server.into(),
        logs: Logs::Relay,
    }
}

fn dead_log() -> Source {
    Source {
        server: "db1".into(),
        logs: Logs::Binary,
    }
}

/// db2 received up to 452, db3 up to 880; the dead log as given; these copies.
fn story(dead: Option<(&[&str], Option<&str>)>, copies: &[(&str, BinlogServerLog)]) -> Story {
    let mut story = Story::new(
        &[("1:452", "1:452"), ("1:880", "1:452")],
        &[
            (&["1:120 1:452"], Some("1:452")),
            (&["1:120 1:880"], Some("1:880")),
        ],
        dead,
    );
    for (name, log) in copies {
        let log = log.clone();
        story.holdings.binlog_servers.insert((*name).into(), log);
    }
    story
}

#[test]
fn the_host_is_gone_and_a_binlog_server_has_the_tail() {
    let copies = verified(holds(&["1:4 1:1308"], Some("1:1308")));
    let story = story(None, &[("binlog1", copies)]);
    assert_eq!(
        story.pieces(),
        ["db3 diff 1:452 1:880", "binlog1 copies 1:880 1:1308"]
    );
    let plan = story.plan().unwrap();
    assert_eq!(plan.frontier.last_held_by, ["binlog1"]);
    let acts: Vec<String> = plan.steps.iter().map(|s| s.act.to_string()).collect();
    let expected = [
        "save piece 2 [mysql-bin.000001:880, mysql-bin.000001:1308) from binlog server binlog1",
        "keep a copy of piece 2 from binlog1 on the manager",
        "send piece 2 from binlog1 to db2",
        "compare the event before mysql-bin.000001:880: relay log of db3 with copies of binlog server binlog1",
    ];
    for wanted in expected {
        assert!(acts.iter().any(|act| act == wanted), "{wanted}: {acts:#?}");
    }
}

#[test]
fn the_one_that_reaches_furthest_serves_not_the_one_that_holds_most() {
    let story = story(
        None,
        &[
            // Days of files, and it lags behind.
            ("binlog1", verified(holds(&["1:4 1:1000"], Some("1:1000")))),
            (
                "binlog2",
                verified(holds(&["1:800 1:1308"], Some("1:1308"))),
            ),
        ],
    );
    assert_eq!(
        story.pieces(),
        ["db3 diff 1:452 1:880", "binlog2 copies 1:880 1:1308"]
    );
    // What the furthest lacks comes from the other.
    let mut story = story;
    let late = verified(holds(&["1:1000 1:1308"], Some("1:1308")));
    story.holdings.binlog_servers.insert("binlog2".into(), late);
    assert_eq!(
        story.pieces(),
        [
            "db3 diff 1:452 1:880",
            "binlog1 copies 1:880 1:1000",
            "binlog2 copies 1:1000 1:1308"
        ]
    );
}

#[test]
fn files_end_and_the_next_goes_on() {
    // The survivors stand where the first file ends (MHA's text mode stopped there).
    let copies = verified(holds(&["1:4 2:600"], Some("2:600")));
    let mut story = Story::new(
        &[("1:900", "1:900"), ("1:900", "1:900")],
        &[
            (&["1:120 1:900"], Some("1:900")),
            (&["1:120 1:900"], Some("1:900")),
        ],
        None,
    );
    story
        .holdings
        .binlog_servers
        .insert("binlog1".into(), copies);
    assert_eq!(story.pieces(), ["binlog1 copies 1:900 2:600"]);
}

#[test]
fn the_dead_disk_serves_what_it_holds_and_copies_only_what_it_has_lost() {
    let copies = verified(holds(&["1:4 1:1308"], Some("1:1308")));
    let whole: (&[&str], Option<&str>) = (&["1:452 1:1308"], Some("1:1308"));
    let story_of = |dead| story(Some(dead), &[("binlog1", copies.clone())]).pieces();
    assert_eq!(
        story_of(whole),
        ["db3 diff 1:452 1:880", "db1 tail 1:880 1:1308"]
    );
    // It crashed with sync_binlog=0.
    assert_eq!(
        story_of((&["1:452 1:1000"], Some("1:1000"))),
        [
            "db3 diff 1:452 1:880",
            "db1 tail 1:880 1:1000",
            "binlog1 copies 1:1000 1:1308"
        ]
    );
}

#[test]
fn what_was_not_verified_counts_for_nothing() {
    let with = story(None, &[("binlog1", unusable())]);
    let without = story(None, &[]);
    assert_eq!(with.pieces(), without.pieces());
    assert_eq!(with.plan().unwrap().frontier.end, at("1:880"));
}

#[test]
fn copies_are_compared_with_the_dead_log_first_and_as_far_behind_as_possible() {
    let others = [
        (relay_of("db2"), at("1:452")),
        (relay_of("db3"), at("1:880")),
        (relay_of("db3"), at("1:1400")),
        (relay_of("db4"), at("1:1500")),
        (dead_log(), at("1:400")),
    ];
    let found = meeting_points(&at("1:1308"), &others);
    assert_eq!(
        found,
        [
            (dead_log(), at("1:400")),
            (relay_of("db3"), at("1:1308")),
            (relay_of("db4"), at("1:1308")),
            (relay_of("db3"), at("1:880")),
            (relay_of("db2"), at("1:452")),
        ]
    );
    // Of copies that lag everything meets at their end.
    let found = meeting_points(&at("1:300"), &others[..2]);
    assert_eq!(
        found,
        [
            (relay_of("db2"), at("1:300")),
            (relay_of("db3"), at("1:300"))
        ]
    );
}

#[test]
fn two_answers_are_the_same_history_another_one_or_nothing() {
    let event = |start: &str, end: &str, sha256: &str| crate::agents::HeldEvent {
        start: at(start),
        end: at(end),
        type_code: 2,
        sha256: sha256.into(),
    };
    let before = at("1:880");
    let last = event("1:849", "1:880", "aa");
    let other = event("1:849", "1:880", "bb");
    let longer = event("1:800", "1:880", "aa");
    let earlier = event("1:400", "1:452", "aa");
    let met = |one: &crate::agents::HeldEvent, other: Option<&crate::agents::HeldEvent>| {
        compare(&before, Some(one.clone()), other.cloned())
    };
    assert_eq!(met(&last, Some(&last)), Met::Same(last.clone()));
    for different in [&other, &longer, &earlier] {
        assert!(matches!(met(&last, Some(different)), Met::Other(..)));
        assert!(matches!(met(different, Some(&last)), Met::Other(..)));
    }
    assert_eq!(met(&last, None), Met::Nothing);
    assert_eq!(compare(&before, None, None), Met::Nothing);
}

#[test]
fn only_who_reaches_beyond_all_others_is_alone() {
    let far = verified(holds(&["1:4 1:1308"], Some("1:1308")));
    let near = verified(holds(&["1:4 1:880"], Some("1:880")));
    let alone = |story: &Story, name: &str| binlog_servers::holds_alone(&story.holdings, name);
    let one = story(None, &[("binlog1", far.clone()), ("binlog2", near)]);
    assert!(alone(&one, "binlog1"));
    // A survivor has as much.
    assert!(!alone(&one, "binlog2"));
    assert!(!alone(&one, "nobody"));
    let two = story(None, &[("binlog1", far.clone()), ("binlog2", far.clone())]);
    assert!(!alone(&two, "binlog1"));
    let disk: (&[&str], Option<&str>) = (&["1:452 1:1308"], Some("1:1308"));
    assert!(!alone(&story(Some(disk), &[("binlog1", far)]), "binlog1"));
    let refused = story(None, &[("binlog1", unusable())]);
    assert!(!alone(&refused, "binlog1"));
}
