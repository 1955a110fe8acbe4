//! Unfinished transactions, large events, positions around and beyond 4 GiB.

use binlog_core::checksum::ChecksumAlgorithm::Crc32;
use binlog_core::segment::EventBytes;
use binlog_core::testing::{PrimaryLog, RelayWriter, table_map_body};
use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, EventType, LogEnd, LogError, NothingReason, RelayLogs,
    ServerId, StreamRange,
};

use crate::{first_relay, pos, sample, write_cut};

#[test]
fn an_unfinished_transaction_is_dropped_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = sample(Crc32);
    let whole = log.position().clone();
    log.query("BEGIN")
        .query("insert into m values(1)")
        .event(EventType::TABLE_MAP, &table_map_body("d", "t1"));
    log.event(EventType::WRITE_ROWS, &[1; 40]);
    let base = log.write_to(dir.path()).unwrap();
    let logs = BinaryLogs::open(&base).unwrap();
    let CutPlan::Nothing(nothing) = logs.plan_cut(&whole, None).unwrap() else {
        panic!()
    };
    assert_eq!(nothing.reason, NothingReason::OnlyUnfinished);
    let CutPlan::Cut(cut) = logs.plan_cut(&pos("b.000001:4"), None).unwrap() else {
        panic!()
    };
    assert_eq!(cut.range().to, whole);
    let manifest = cut
        .write(&dir.path().join("s"), "test", &mut |_| ())
        .unwrap();
    assert_eq!(manifest.dropped_bytes, log.position().offset - whole.offset);
    let inside = log.events[log.events.len() - 2].end.clone();
    assert!(matches!(
        logs.plan_cut(&whole, Some(&inside)),
        Err(LogError::InsideTransaction { .. })
    ));

    let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
    writer.connect(&log, &pos("b.000001:4"));
    log.events
        .iter()
        .for_each(|event| writer.receive(&log, event));
    let relay = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    let survey = relay.survey().unwrap();
    assert_eq!(
        (survey.whole_end.as_ref(), survey.data_end.as_ref()),
        (Some(&whole), Some(log.position()))
    );
    let tail = relay.unfinished_tail().unwrap().unwrap();
    assert_eq!((&tail.start, &tail.end), (&whole, log.position()));
    assert_eq!(tail.tables, [("d".to_owned(), "t1".to_owned())]);
    assert_eq!(
        tail.statements,
        [(Some("d".to_owned()), "insert into m values(1)".to_owned())]
    );
    assert!(!tail.truncated);
}

#[test]
fn events_over_a_mebibyte_are_streamed_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = sample(Crc32);
    let before = log.position().clone();
    log.transaction(7, 1, 3 << 20).transaction(8, 1, 5);
    let base = log.write_to(dir.path()).unwrap();
    let logs = BinaryLogs::open(&base).unwrap();
    let output = dir.path().join("s");
    let chain = write_cut(logs.plan_cut(&before, None).unwrap(), &output);
    let mut rows = vec![];
    for event in chain.events_from(&before).unwrap() {
        if let EventBytes::Blocks(mut blocks) = event.unwrap().bytes {
            let mut buf = vec![0; 100_000];
            loop {
                let n = blocks.read_block(&mut buf).unwrap();
                if n == 0 {
                    break;
                }
                rows.extend_from_slice(&buf[..n]);
            }
            assert!(blocks.is_empty());
            assert_eq!(blocks.len(), rows.len() as u64);
        }
    }
    let truth = log.events.iter().find(|e| e.bytes.len() > 1 << 20).unwrap();
    assert!(rows == truth.bytes);
    // A flipped bit in the middle of it.
    let path = base.with_file_name("b.000002");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2_000_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let survey = BinaryLogs::open(&base).unwrap().survey(None).unwrap();
    assert!(
        matches!(&survey.end, LogEnd::Corrupt { offset, .. } if *offset == truth.start.offset),
        "{}",
        survey.end
    );
    assert_eq!(survey.whole_end, Some(before));
}

/// Positions beyond 4 GiB: log_pos wraps, ours do not.
#[test]
fn positions_beyond_four_gibibytes_do_not_wrap() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, Crc32);
    let start = (1_u64 << 32) - 300;
    log.jump_to(start)
        .transaction(1, 3, 100)
        .transaction(2, 3, 100);
    let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
    writer.connect(
        &log,
        &BinlogPosition::new("b.000001".parse().unwrap(), start),
    );
    log.events
        .iter()
        .skip(1)
        .for_each(|event| writer.receive(&log, event));
    let relay = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    let survey = relay.survey().unwrap();
    assert!(log.position().offset > 1 << 32);
    assert_eq!(survey.whole_end.as_ref(), Some(log.position()));
    for event in log.events.iter().skip(1) {
        let wanted = StreamRange::new(event.start.clone(), log.position().clone());
        let chain = write_cut(relay.plan_cut(&wanted).unwrap(), &dir.path().join("s"));
        assert_eq!(
            chain
                .events_from(&event.end)
                .unwrap()
                .last()
                .unwrap()
                .unwrap()
                .position_after,
            *log.position()
        );
    }
}

/// Its log_pos is 0, as that of events that take no place.
#[test]
fn an_event_that_ends_at_four_gibibytes_is_one_of_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    for at_end in 0..4 {
        let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, Crc32);
        let mut lengths = log.clone();
        let before = lengths.position().offset;
        lengths.transaction(1, 1, 100);
        let len = lengths.events[1 + at_end].end.offset - before;
        let start = (1_u64 << 32) - len;
        log.jump_to(start).transaction(1, 1, 100).rotate();
        let from = BinlogPosition::new("b.000001".parse().unwrap(), start);
        let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
        writer.connect(&log, &from);
        for event in &log.events[1..] {
            writer.receive(&log, event);
        }
        let files = writer.write_to(dir.path()).unwrap();
        let open = || RelayLogs::open(files.clone(), ServerId(9), None).unwrap();
        assert_eq!(log.events[1 + at_end].end.offset, 1 << 32);
        for event in &log.events[1..5] {
            let located = open().locate(&event.end).unwrap();
            let path = dir.path().join(located.position.file.as_str());
            let until = usize::try_from(located.position.offset).unwrap();
            assert!(std::fs::read(path).unwrap()[..until].ends_with(&event.bytes));
        }
        let all = StreamRange::new(from, log.position().clone());
        assert_eq!(open().survey().unwrap().ranges, [all]);
    }
}
