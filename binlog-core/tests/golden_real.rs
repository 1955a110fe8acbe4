//! Real relay logs against the binary log of their primary, at every event end.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use std::path::{Path, PathBuf};

use binlog_core::segment::SegmentChain;
use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, LogEnd, MasterInfo, RelayLogInfo, RelayLogs, StreamRange,
};

const SETS: [&str; 4] = [
    "mysql-5.6-rotations",
    "mysql-5.6-gtid",
    "mysql-9.7-gtid",
    "mariadb-10.11-rotations",
];

fn golden(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(set)
}

fn latest(set: &str) -> BinlogPosition {
    std::fs::read_to_string(golden(set).join("latest"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

fn relay(set: &str) -> RelayLogs {
    common::relay_logs(
        &golden(set).join("replica"),
        "relay-bin",
        2,
        Some(latest(set)),
    )
}

#[test]
fn every_event_end_is_served() {
    let dir = tempfile::tempdir().unwrap();
    for set in SETS {
        let compared = common::compare(
            &golden(set).join("primary/mysql-bin"),
            &relay(set),
            dir.path(),
        );
        let all = StreamRange::new("mysql-bin.000001:4".parse().unwrap(), latest(set));
        assert_eq!(compared.ranges, [all], "{set}");
        assert!(compared.holes.is_empty() && compared.ends > 150, "{set}");
        assert_eq!(compared.served, compared.ends, "{set}");
    }
}

#[test]
fn both_kinds_of_provider_name_the_same_last_transaction() {
    for set in SETS {
        let primary = BinaryLogs::open(&golden(set).join("primary/mysql-bin")).unwrap();
        let (theirs, ours) = (primary.survey(None).unwrap(), relay(set).survey().unwrap());
        assert_eq!(theirs.last_transaction, ours.last_transaction, "{set}");
        assert_eq!(theirs.whole_end, ours.whole_end, "{set}");
        assert_eq!(ours.data_end, Some(latest(set)), "{set}");
        assert!(
            matches!(theirs.end, LogEnd::InUse { .. } | LogEnd::Clean { .. }),
            "{set}"
        );
        assert_eq!(relay(set).unfinished_tail().unwrap(), None, "{set}");
    }
}

/// With the older relay logs purged, whatever is left is served as far as it goes.
#[test]
fn any_suffix_of_the_relay_logs_serves_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    for set in SETS {
        let truth = common::truth(&golden(set).join("primary/mysql-bin"));
        let files = relay(set).files().to_vec();
        for skip in 1..files.len() {
            let logs = RelayLogs::open(
                files[skip..].to_vec(),
                binlog_core::ServerId(2),
                Some(latest(set)),
            )
            .unwrap();
            let survey = logs.survey().unwrap();
            // With AUTO_POSITION each connection starts at the head of the file and skips what the replica has.
            assert!(
                survey.ranges.len() <= 1 || set.ends_with("-gtid"),
                "{set} {skip}: {:?}",
                survey.ranges
            );
            let Some(last) = survey.ranges.last() else {
                continue;
            };
            assert_eq!(last.to, latest(set), "{set} {skip}");
            for range in &survey.ranges {
                if let CutPlan::Cut(cut) = logs.plan_cut(range).unwrap() {
                    let output = dir.path().join("s");
                    cut.write(&output, "test", &mut |_| ()).unwrap();
                    let chain = SegmentChain::open(&[output]).unwrap();
                    assert_eq!(
                        common::streamed(&chain, &range.from),
                        common::expected(&truth, range),
                        "{set} {skip}"
                    );
                }
            }
        }
    }
}

#[test]
fn mariadb_positions_map_to_coordinates_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let set = "mariadb-10.11-rotations";
    let primary = BinaryLogs::open(&golden(set).join("primary/mysql-bin")).unwrap();
    let start: BinlogPosition = "mysql-bin.000001:4".parse().unwrap();
    let CutPlan::Cut(cut) = primary.plan_cut(&start, None).unwrap() else {
        panic!()
    };
    let output = dir.path().join("s");
    let manifest = cut.write(&output, "test", &mut |_| ()).unwrap();
    let chain = SegmentChain::open(&[output]).unwrap();
    let mut checked = 0;
    for (at, (end, _, _)) in common::truth(&golden(set).join("primary/mysql-bin")) {
        // Exactly at the ends of transactions, and nowhere inside.
        if end > chain.whole_end() {
            break;
        }
        let Some(position) = chain.mariadb_gtid_pos_at(&end).unwrap() else {
            continue;
        };
        if let Some(back) = chain.position_of_gtid_pos(&position).unwrap() {
            assert!(back <= end, "{position} at {end} gave {back}");
            let truth = chain.mariadb_gtid_pos_at(&back).unwrap().unwrap();
            assert_eq!(truth, position, "{at}");
            checked += 1;
        }
    }
    assert!(
        checked as u64 >= manifest.transactions,
        "{checked} of {}",
        manifest.transactions
    );
    let last = chain
        .mariadb_gtid_pos_at(&chain.whole_end())
        .unwrap()
        .unwrap();
    assert_eq!(last.iter().count(), 2, "two domains: {last}");
    for gtid in last.iter() {
        assert_eq!(
            chain.position_after_gtid(&gtid).unwrap(),
            relay(set).position_after_gtid(&gtid).unwrap()
        );
    }
    assert_eq!(
        relay(set).position_of_gtid_pos(&last).unwrap(),
        Some(chain.whole_end())
    );
}

#[test]
fn info_files_of_both_families_are_read() {
    // MySQL 9.7 keeps both in tables.
    for set in SETS.into_iter().filter(|set| *set != "mysql-9.7-gtid") {
        let read = |name: &str| {
            (
                std::fs::read_to_string(golden(set).join("replica").join(name)).unwrap(),
                golden(set).join(name),
            )
        };
        let (text, path) = read("master.info");
        let info = MasterInfo::parse(&text, &path).unwrap();
        assert_eq!(
            (info.read, info.user.as_str(), info.password.as_str()),
            (Some(latest(set)), "repl", "r"),
            "{set}"
        );
        assert_eq!(info.using_gtid, set.starts_with("mariadb").then_some(0));
        assert_eq!(info.auto_position, set == "mysql-5.6-gtid");
        let (text, path) = read("relay-log.info");
        let info = RelayLogInfo::parse(&text, &path).unwrap();
        assert!(info.executed.is_some(), "{set}");
    }
}
