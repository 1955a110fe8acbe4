//! Where a server stands by its GTIDs, against reading the log from its very beginning.

use std::collections::BTreeSet;

use binlog_core::checksum::ChecksumAlgorithm::Crc32;
use binlog_core::testing::{PrimaryLog, RelayWriter};
use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, EventType, GtidSet, GtidState, RelayLogs, SegmentChain,
    ServerId,
};
use proptest::prelude::*;

use crate::first_relay;

fn uuid_text(server: u8) -> String {
    let byte = format!("{server:02x}");
    let run = |n: usize| byte.repeat(n);
    format!("{}-{}-{}-{}-{}", run(4), run(2), run(2), run(2), run(6))
}

fn set(numbers: impl IntoIterator<Item = (u8, u64)>) -> GtidSet {
    numbers
        .into_iter()
        .fold(GtidSet::default(), |all, (server, number)| {
            let one = format!("{}:{number}", uuid_text(server));
            all.union(&one.parse().unwrap())
        })
}

/// Everything up to the last number of each server, in one interval each, as a server writes it.
fn previous_gtids(before: &[(u8, u64)]) -> Vec<u8> {
    let servers: BTreeSet<u8> = before.iter().map(|(server, _)| *server).collect();
    let mut body = (servers.len() as u64).to_le_bytes().to_vec();
    for server in servers {
        let numbers = before.iter().filter(|(s, _)| *s == server);
        let end = numbers.map(|(_, number)| number + 1).max().unwrap();
        body.extend_from_slice(&[server; 16]);
        for value in [1, 1, end] {
            body.extend_from_slice(&u64::to_le_bytes(value));
        }
    }
    body
}

/// A log of MySQL transactions, some of which came from an older primary, and where each of them ends.
struct Story {
    log: PrimaryLog,
    transactions: Vec<((u8, u64), BinlogPosition)>,
}

/// `true`: a new file begins after the transaction.
fn story(plan: &[(u8, bool)]) -> Story {
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, Crc32);
    log.event(EventType::PREVIOUS_GTIDS, &previous_gtids(&[]));
    let mut transactions: Vec<((u8, u64), BinlogPosition)> = Vec::new();
    for (server, rotate) in plan {
        let earlier = transactions.iter().filter(|((s, _), _)| s == server);
        let gtid = (*server, earlier.count() as u64 + 1);
        let mut body = vec![1];
        body.extend_from_slice(&[*server; 16]);
        body.extend_from_slice(&gtid.1.to_le_bytes());
        log.event(EventType::GTID, &body).transaction(gtid.1, 1, 20);
        transactions.push((gtid, log.position().clone()));
        if *rotate {
            log.rotate();
            let before: Vec<(u8, u64)> = transactions.iter().map(|(gtid, _)| *gtid).collect();
            log.event(EventType::PREVIOUS_GTIDS, &previous_gtids(&before));
        }
    }
    Story { log, transactions }
}

impl Story {
    /// Number of transactions before a place.
    fn before(&self, place: &BinlogPosition) -> usize {
        self.transactions
            .iter()
            .filter(|(_, end)| end <= place)
            .count()
    }

    /// Number of transactions before the first one that is not held.
    fn first_missing(&self, held: &GtidSet) -> usize {
        self.transactions
            .iter()
            .take_while(|(gtid, _)| held.contains_set(&set([*gtid])))
            .count()
    }
}

fn plan() -> impl Strategy<Value = Vec<(u8, bool)>> {
    proptest::collection::vec((1..3_u8, proptest::bool::weighted(0.3)), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_place_is_the_one_before_the_first_transaction_that_is_missing(
        plan in plan(),
        kept in proptest::collection::vec(proptest::bool::weighted(0.8), 9),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let story = story(&plan);
        let logs = BinaryLogs::open(&story.log.write_to(dir.path()).unwrap()).unwrap();
        let all = story.transactions.iter().map(|(gtid, _)| *gtid);
        let held = set(all.clone().zip(&kept).filter(|(_, kept)| **kept).map(|(gtid, _)| gtid));
        let place = logs.place_of(&GtidState::MySql(held.clone())).unwrap().unwrap();
        prop_assert_eq!(story.before(&place), story.first_missing(&held));
        prop_assert_eq!(logs.gtids_ever_held().unwrap(), Some(set(all)));
        // The place can be served.
        prop_assert!(logs.survey(Some(&place)).is_ok());
    }

    #[test]
    fn relay_logs_know_the_place_of_whoever_has_all_that_came_before_them(
        plan in plan(),
        from in 0..9_usize,
        kept in proptest::collection::vec(proptest::bool::weighted(0.8), 9),
    ) {
        let dir = tempfile::tempdir().unwrap();
        // One file: the head of a further one is a hole where the receiver does not restate the place behind it.
        let plan: Vec<(u8, bool)> = plan.iter().map(|(server, _)| (*server, false)).collect();
        let story = story(&plan);
        let from = from.min(story.transactions.len());
        let start = match from.checked_sub(1).and_then(|last| story.transactions.get(last)) {
            Some((_, end)) => end.clone(),
            None => story.log.events[0].start.clone(),
        };
        let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
        writer.connect(&story.log, &start);
        for event in story.log.events.iter().filter(|event| event.start >= start) {
            writer.receive(&story.log, event);
        }
        let files = writer.write_to(dir.path()).unwrap();
        let relay = RelayLogs::open(files, ServerId(9), Some(story.log.position().clone())).unwrap();
        let all: Vec<(u8, u64)> = story.transactions.iter().map(|(gtid, _)| *gtid).collect();
        let held = set(all.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(gtid, _)| *gtid));
        // The owner has executed a part of what it received.
        let owner = set(all.iter().copied().take(from + 1));
        let place = relay
            .place_of(&GtidState::MySql(held.clone()), &GtidState::MySql(owner))
            .unwrap();
        let missing = story.first_missing(&held);
        if missing < from {
            prop_assert_eq!(place, None);
        } else if from < all.len() {
            prop_assert_eq!(place.map(|place| story.before(&place)), Some(missing));
        }
    }
}

#[test]
fn what_the_log_cannot_tell_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, Crc32);
    // The first file that is left: another server's transactions were purged.
    log.event(
        EventType::PREVIOUS_GTIDS,
        &previous_gtids(&[(7, 1), (7, 2)]),
    );
    log.event(EventType::ANONYMOUS_GTID, &[0; 25])
        .transaction(1, 1, 20);
    let logs = BinaryLogs::open(&log.write_to(dir.path()).unwrap()).unwrap();
    let place = |held: GtidSet| logs.place_of(&GtidState::MySql(held)).unwrap();
    assert_eq!(place(set([(7, 1)])), None, "what it lacks is purged");
    assert_eq!(
        place(set([(7, 1), (7, 2)])),
        None,
        "a transaction without a GTID"
    );
}

#[test]
fn a_mariadb_position_is_found_behind_the_list_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let list = |last: u64| {
        let mut body = 1_u32.to_le_bytes().to_vec();
        body.extend_from_slice(&0_u32.to_le_bytes());
        body.extend_from_slice(&1_u32.to_le_bytes());
        body.extend_from_slice(&last.to_le_bytes());
        body
    };
    let mut log =
        PrimaryLog::with_version("b.000001".parse().unwrap(), 1, Crc32, "10.11.19-MariaDB");
    log.event(EventType::MARIADB_GTID_LIST, &[0; 4]);
    log.mariadb_gtid(0, 1, 0).transaction(1, 1, 20);
    let first = log.position().clone();
    log.rotate().event(EventType::MARIADB_GTID_LIST, &list(1));
    let head = BinlogPosition::new(log.position().file.clone(), 4);
    log.mariadb_gtid(0, 2, 0).transaction(2, 1, 20);
    let second = log.position().clone();
    let logs = BinaryLogs::open(&log.write_to(dir.path()).unwrap()).unwrap();
    let place = |text: &str| {
        logs.place_of(&GtidState::parse(text, true).unwrap())
            .unwrap()
    };
    assert_eq!(place("0-1-2"), Some(second));
    assert_eq!(place("0-1-1"), Some(head));
    assert_eq!(place("").map(|place| place <= first), Some(true));
}

#[test]
fn a_replica_whose_domains_stand_apart_is_served_from_the_first_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let mut log =
        PrimaryLog::with_version("b.000001".parse().unwrap(), 1, Crc32, "10.11.19-MariaDB");
    let head: BinlogPosition = "b.000001:4".parse().unwrap();
    log.event(EventType::MARIADB_GTID_LIST, &[0; 4]);
    let ends: Vec<BinlogPosition> = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]
        .into_iter()
        .map(|(domain, number)| {
            log.mariadb_gtid(domain, number, 0)
                .transaction(number, 1, 20);
            log.position().clone()
        })
        .collect();
    let logs = BinaryLogs::open(&log.write_to(dir.path()).unwrap()).unwrap();
    let CutPlan::Cut(cut) = logs.plan_cut(&head, Some(&ends[4])).unwrap() else {
        panic!("nothing to cut");
    };
    let segment = dir.path().join("segment");
    cut.write(&segment, "test", &mut |_| {}).unwrap();
    let chain = SegmentChain::open(&[segment]).unwrap();
    for (executed, expected) in [
        ("1-1-1,2-1-1", &ends[1]),
        ("1-1-3,2-1-2", &ends[4]),
        // One domain is ahead of the other.
        ("1-1-1,2-1-2", &ends[1]),
        ("1-1-3,2-1-1", &ends[2]),
        ("2-1-2", &head),
    ] {
        let position = executed.parse().unwrap();
        let found = chain.position_of_gtid_pos(&position).unwrap();
        assert_eq!(found.as_ref(), Some(expected), "{executed}");
    }
}
