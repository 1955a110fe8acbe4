//! Segments cut from files, served while later ones still arrive.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use binlog_core::{BinaryLogs, BinlogPosition, CutPlan, EventType};
use tempfile::TempDir;

use super::client::Replica;
use super::fixture::{InMemory, assert_description, assert_rotate, at, header};
use super::memory_feed::{MemoryFeed, Stored};
use crate::source::chain_feed::ChainFeed;
use crate::source::fault::FaultPlan;
use crate::source::feed::{EventFeed, FeedError};
use crate::source::identity::tests::mysql56;
use crate::source::{ReplayAccount, SourceConfig, SourceLimits};

/// Body of a `QUERY_EVENT`.
fn query(text: &str) -> Vec<u8> {
    let fixed = [
        &7u32.to_le_bytes()[..], // thread
        &0u32.to_le_bytes(),     // duration
        &[1],                    // length of the database's name
        &0u16.to_le_bytes(),     // error
        &0u16.to_le_bytes(),     // length of the status variables
    ];
    [&fixed.concat()[..], b"t\0", text.as_bytes()].concat()
}

/// A transaction with a payload of this size; returns the places in its middle and after it.
fn transaction(log: &MemoryFeed, xid: u64, payload: usize) -> (BinlogPosition, BinlogPosition) {
    log.append(EventType::QUERY, &query("BEGIN"));
    let text = format!("INSERT INTO a VALUES ('{}')", "x".repeat(payload));
    let middle = log.append(EventType::QUERY, &query(&text));
    log.append(
        EventType::QUERY,
        &query("UPDATE a SET id = id + 1 WHERE id = 1"),
    );
    (middle, log.append(EventType::XID, &xid.to_le_bytes()))
}

/// The log as files of a primary.
fn write_files(log: &MemoryFeed, folder: &Path) {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for event in log.stored() {
        let name = event.before.file.as_str();
        if files.last().is_none_or(|(last, _)| last != name) {
            files.push((name.to_owned(), b"\xfebin".to_vec()));
        }
        files.last_mut().unwrap().1.extend_from_slice(&event.bytes);
    }
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

fn cut(folder: &Path, from: &BinlogPosition, to: &BinlogPosition) -> PathBuf {
    let logs = BinaryLogs::open(&folder.join("bin")).unwrap();
    let CutPlan::Cut(cut) = logs.plan_cut(from, Some(to)).unwrap() else {
        panic!("nothing to cut from {from} to {to}");
    };
    let output = folder.join(format!("segment-{}-{}", from.file, from.offset));
    cut.write(&output, "test", &mut |_| {}).unwrap();
    output
}

fn source(feed: Arc<ChainFeed>) -> InMemory {
    InMemory::new(SourceConfig {
        identity: mysql56(),
        bind_port: None,
        account: Some(ReplayAccount {
            user: "mha_test".into(),
            password: "secret".into(),
        }),
        feed,
        limits: SourceLimits::default(),
        faults: FaultPlan::default(),
    })
}

struct Primary {
    folder: TempDir,
    stored: Vec<Stored>,
    /// After the first transaction, inside the second, after it, after all.
    places: [BinlogPosition; 4],
}

/// Two files, three transactions; one event is larger than what is read at once.
fn primary() -> Primary {
    let log = MemoryFeed::starting("bin.000009", true);
    let (_, after_first) = transaction(&log, 1, 10);
    let (inside_second, after_second) = transaction(&log, 2, 3_000_000);
    log.rotate(true);
    let (_, end) = transaction(&log, 3, 20);
    let folder = tempfile::tempdir().unwrap();
    write_files(&log, folder.path());
    Primary {
        folder,
        stored: log.stored(),
        places: [after_first, inside_second, after_second, end],
    }
}

/// Reads on until the stream is at `end`, leaving heartbeats out; returns what came.
async fn read_to<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    replica: &mut Replica<S>,
    end: &BinlogPosition,
) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    loop {
        let event = replica.event().await;
        let found = header(&event);
        if found.type_code == EventType::HEARTBEAT {
            continue;
        }
        events.push(event);
        if u64::from(found.log_pos) == end.offset && found.type_code == EventType::XID {
            return events;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn segments_are_served_while_later_ones_arrive() {
    let primary = primary();
    let [after_first, _, after_second, end] = &primary.places;
    let start = at("bin.000009:4");
    let folder = primary.folder.path();
    let [one, two, three] = [
        (&start, after_first),
        (after_first, after_second),
        (after_second, end),
    ]
    .map(|(from, to)| cut(folder, from, to));
    let feed = Arc::new(ChainFeed::growing(&[one]).unwrap());
    let source = source(Arc::clone(&feed));
    let mut replica = source.dumping(&start).await;
    assert_rotate(&replica.event().await, &start, true);
    let mut received = read_to(&mut replica, after_first).await;
    for _ in 0..60 {
        assert_eq!(
            header(&replica.event().await).type_code,
            EventType::HEARTBEAT
        );
    }
    // The second has an event that comes in blocks, the third begins with the Rotate into the next file.
    feed.append(&two).unwrap();
    feed.append(&three).unwrap();
    feed.finish();
    assert_eq!(feed.range().to, *end);
    received.extend(read_to(&mut replica, end).await);

    let mut received = received.into_iter();
    for expected in &primary.stored {
        if expected.type_code == EventType::FORMAT_DESCRIPTION {
            if expected.before != start {
                assert_rotate(&received.next().unwrap(), &expected.before, true);
            }
            assert_description(&received.next().unwrap(), false);
        } else {
            assert!(
                received.next().as_ref() == Some(&expected.bytes),
                "event at {}",
                expected.before
            );
        }
    }
    assert_eq!(received.next(), None, "one format description per file");
}

#[tokio::test(start_paused = true)]
async fn a_segment_is_served_from_inside_a_transaction_and_from_its_end() {
    let primary = primary();
    let [after_first, inside_second, after_second, end] = &primary.places;
    let segments = [
        cut(primary.folder.path(), after_first, after_second),
        cut(primary.folder.path(), after_second, end),
    ];
    let source = source(Arc::new(ChainFeed::complete(&segments).unwrap()));
    for from in [after_first, inside_second, after_second] {
        let mut replica = source.dumping(from).await;
        assert_rotate(&replica.event().await, from, true);
        assert_description(&replica.event().await, true);
        let next = primary
            .stored
            .iter()
            .find(|event| event.before == *from)
            .unwrap();
        assert!(replica.event().await == next.bytes, "from {from}");
    }
    let mut replica = source.dumping(end).await;
    assert_rotate(&replica.event().await, end, true);
    assert_description(&replica.event().await, true);
    assert_eq!(
        header(&replica.event().await).type_code,
        EventType::HEARTBEAT
    );
    let mut before = source.dumping(&at("bin.000009:4")).await;
    let (code, text) = before.dump_error().await;
    assert_eq!(code, 1236);
    assert!(text.contains("the segments cover"), "{text}");
}

#[test]
fn parts_that_do_not_meet_are_refused() {
    let primary = primary();
    let [after_first, _, after_second, end] = &primary.places;
    let one = cut(primary.folder.path(), &at("bin.000009:4"), after_first);
    let three = cut(primary.folder.path(), after_second, end);
    let feed = ChainFeed::growing(std::slice::from_ref(&one)).unwrap();
    for wrong in [&three, &one] {
        let refused = feed.append(wrong);
        assert!(
            matches!(&refused, Err(FeedError::Gap { expected, .. }) if expected == after_first),
            "{refused:?}"
        );
    }
    assert_eq!(feed.range().to, *after_first);
    std::fs::write(&one, b"\xfebin").unwrap();
    assert!(matches!(
        ChainFeed::complete(&[one]),
        Err(FeedError::Log(_))
    ));
}
