//! A replica that asks by its GTIDs.

use binlog_core::{BinlogPosition, EventType, GtidSet};
use tokio::io::DuplexStream;

use super::client::Replica;
use super::fixture::{
    InMemory, assert_description, assert_rotate, assert_summed, at, config, header,
};
use super::memory_feed::{MemoryFeed, Stored};
use crate::source::SourceIdentity;
use crate::source::by_gtid::connects;
use crate::source::identity::tests::mysql56;

/// First and last number of each part of a set.
type Intervals = &'static [(u64, u64)];

const UUID: &str = "11111111-1111-1111-1111-111111111111";

fn by_gtid() -> SourceIdentity {
    SourceIdentity {
        gtid_mode: Some("ON".to_owned()),
        ..mysql56()
    }
}

fn set(numbers: &str) -> GtidSet {
    match numbers {
        "" => GtidSet::default(),
        numbers => format!("{UUID}:{numbers}").parse().unwrap(),
    }
}

fn gtid(feed: &MemoryFeed, number: u64) {
    let body = [&[1][..], &[0x11; 16], &number.to_le_bytes()].concat();
    feed.append(EventType::GTID, &body);
}

/// A transaction of this number; returns where it begins and ends.
fn transaction(feed: &MemoryFeed, number: u64) -> (BinlogPosition, BinlogPosition) {
    let start = feed.end().0;
    gtid(feed, number);
    feed.append(EventType::QUERY, b"BEGIN");
    feed.append(EventType::WRITE_ROWS, &number.to_le_bytes());
    (start, feed.append(EventType::XID, &number.to_le_bytes()))
}

/// Two files, transactions 1 to 3 and 4 to 6; the second one begins with what relay logs leave out.
fn stream() -> MemoryFeed {
    let feed = MemoryFeed::starting("bin.000001", true);
    feed.append(EventType::PREVIOUS_GTIDS, &[0; 8]);
    for number in 1..=3 {
        transaction(&feed, number);
    }
    feed.rotate(true);
    feed.skip(31);
    for number in 4..=6 {
        transaction(&feed, number);
    }
    feed
}

/// The body of a set as replicas send it.
fn encoded(numbers: &[(u64, u64)]) -> Vec<u8> {
    let mut out = u64::from(!numbers.is_empty()).to_le_bytes().to_vec();
    if !numbers.is_empty() {
        out.extend_from_slice(&[0x11; 16]);
        out.extend_from_slice(&(numbers.len() as u64).to_le_bytes());
        for (first, last) in numbers {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&(last + 1).to_le_bytes());
        }
    }
    out
}

async fn asking(source: &InMemory, held: &[(u64, u64)]) -> Replica<DuplexStream> {
    let mut replica = source.replica().await;
    replica
        .query("SET @master_heartbeat_period= 1000000000")
        .await;
    replica
        .query("SET @master_binlog_checksum= @@global.binlog_checksum")
        .await;
    let set = encoded(held);
    let mut dump = b"\x1e\x04\0\x02\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0".to_vec();
    dump.extend_from_slice(&u32::try_from(set.len()).unwrap().to_le_bytes());
    dump.extend_from_slice(&set);
    replica.sequence = 0;
    replica.write(&dump).await;
    replica
}

/// The head of the answer: the file's beginning, with an end position by which an applier drops what it holds of a
/// transaction, and without a time by which it would drop its temporary tables.
async fn assert_head(replica: &mut Replica<DuplexStream>, file: &str) {
    assert_rotate(&replica.event().await, &at(&format!("{file}:4")), true);
    let description = replica.event().await;
    assert_eq!(
        header(&description).type_code,
        EventType::FORMAT_DESCRIPTION
    );
    assert_eq!(header(&description).log_pos as usize, 4 + description.len());
    assert_eq!(description[71..75], [0; 4], "created");
    assert_eq!(header(&description).flags & 1, 0, "in-use flag");
    assert_summed(&description);
}

async fn assert_jump(replica: &mut Replica<DuplexStream>, to: &BinlogPosition) {
    assert_rotate(&replica.event().await, to, true);
    assert_description(&replica.event().await, true);
}

/// The number of the transaction that an event of [`stream`] belongs to; 0 for none.
fn numbers(stored: &[Stored]) -> Vec<u64> {
    let mut number = 0;
    stored
        .iter()
        .map(|event| match event.type_code {
            EventType::GTID => {
                number = u64::from_le_bytes(event.bytes[36..44].try_into().unwrap());
                number
            }
            EventType::QUERY | EventType::WRITE_ROWS | EventType::XID => number,
            _ => 0,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_has_is_left_out_and_all_else_sent_with_the_place_of_each_part() {
    // What it has, and the numbers it must get.
    let table: [(Intervals, &[u64]); 5] = [
        (&[], &[1, 2, 3, 4, 5, 6]),
        (&[(1, 2)], &[3, 4, 5, 6]),
        (&[(1, 4)], &[5, 6]),
        (&[(1, 1), (3, 4), (6, 6)], &[2, 5]),
        (&[(1, 6)], &[]),
    ];
    for (held, expected) in table {
        let feed = stream();
        let (stored, end) = (feed.stored(), feed.end().0);
        let source = InMemory::new(config(by_gtid(), feed));
        let mut replica = asking(&source, held).await;
        assert_head(&mut replica, "bin.000001").await;
        let mut place = stored[0].after.clone();
        for (event, number) in stored.iter().zip(numbers(&stored)).skip(1) {
            if event.type_code == EventType::FORMAT_DESCRIPTION {
                assert_rotate(&replica.event().await, &event.before, true);
                assert_description(&replica.event().await, false);
                place = event.after.clone();
                continue;
            }
            if number != 0 && !expected.contains(&number) {
                continue;
            }
            if place != event.before {
                assert_jump(&mut replica, &event.before).await;
            }
            assert_eq!(
                replica.event().await,
                event.bytes,
                "{held:?} {}",
                event.before
            );
            place = event.after.clone();
        }
        if place != end {
            assert_jump(&mut replica, &end).await;
        }
        let beat = replica.event().await;
        assert_eq!(header(&beat).type_code, EventType::HEARTBEAT, "{held:?}");
        assert_eq!(u64::from(header(&beat).log_pos), end.offset, "{held:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_transaction_comes_again_from_its_beginning() {
    let feed = MemoryFeed::starting("bin.000001", true);
    transaction(&feed, 1);
    let (second, _) = transaction(&feed, 2);
    let stored = feed.stored();
    let source = InMemory::new(config(by_gtid(), feed));
    for _ in 0..2 {
        // The connection is lost behind the first event of the second one.
        let mut replica = asking(&source, &[(1, 1)]).await;
        assert_head(&mut replica, "bin.000001").await;
        assert_jump(&mut replica, &second).await;
        let again = stored.iter().find(|event| event.before == second).unwrap();
        assert_eq!(replica.event().await, again.bytes);
    }
    assert_eq!(source.progress().dumps, 2);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_refused_and_so_is_what_nobody_can_tell_from_what_the_replica_has() {
    let later = MemoryFeed::starting("bin.000001", true);
    transaction(&later, 3);
    let mut headless = stream();
    headless.from = headless.stored()[4].before.clone();
    let anonymous = MemoryFeed::starting("bin.000001", true);
    anonymous.append(EventType::ANONYMOUS_GTID, &[0; 25]);
    let with_gap = MemoryFeed::starting("bin.000001", true);
    transaction(&with_gap, 2);
    transaction(&with_gap, 4);
    for (feed, at_once, reason) in [
        (later, true, "3 at bin.000001:"),
        (headless, true, "has no GTID"),
        (anonymous, true, "has no GTID"),
        (with_gap, false, "4 at bin.000001:"),
    ] {
        assert_eq!(connects(&feed, &set("1")).is_err(), at_once, "{reason}");
        let source = InMemory::new(config(by_gtid(), feed));
        let mut replica = asking(&source, &[(1, 1)]).await;
        let refusal = loop {
            let payload = replica.read().await.unwrap();
            if payload[0] == 0xff {
                break payload;
            }
        };
        assert_eq!(u16::from_le_bytes([refusal[1], refusal[2]]), 1236);
        let text = String::from_utf8_lossy(&refusal[9..]);
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn a_set_connects_where_it_ends_before_the_stream_or_inside_it() {
    for (held, expected) in [
        ("", true),
        ("1-2", true),
        ("1-6", true),
        ("1-9", true),
        ("2-6", true),
    ] {
        assert_eq!(connects(&stream(), &set(held)).is_ok(), expected, "{held}");
    }
    let later = MemoryFeed::starting("bin.000001", true);
    transaction(&later, 5);
    for (held, expected) in [("", false), ("1-3", false), ("1-4", true), ("4", true)] {
        assert_eq!(connects(&later, &set(held)).is_ok(), expected, "{held}");
    }
}
