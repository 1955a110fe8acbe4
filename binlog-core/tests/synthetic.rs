//! Synthetic logs: the worked example of the reference, every way a relay log can be cut up, ends, sizes, settings.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use std::path::Path;

use binlog_core::checksum::ChecksumAlgorithm::{self, Crc32, None as NoChecksum};
use binlog_core::segment::{EventBytes, SegmentChain};
use binlog_core::testing::{PrimaryLog, RelayWriter, WrittenEvent, query_body, table_map_body};
use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, EventType, LogEnd, LogError, NothingReason, RelayFileName,
    RelayLogs, ServerId, StreamRange,
};
use proptest::prelude::*;

fn pos(text: &str) -> BinlogPosition {
    text.parse().unwrap()
}

fn range(from: &str, to: &str) -> StreamRange {
    StreamRange::new(pos(from), pos(to))
}

fn first_relay() -> RelayFileName {
    "relay.000001".parse().unwrap()
}

fn write_cut(plan: CutPlan, output: &Path) -> SegmentChain {
    let CutPlan::Cut(cut) = plan else {
        panic!("{plan:?}")
    };
    cut.write(output, "test", &mut |_| ()).unwrap();
    SegmentChain::open(&[output.to_owned()]).unwrap()
}

/// Writes a statement so long that it ends at `end`.
fn statement_to(log: &mut PrimaryLog, end: u64) {
    let len =
        usize::try_from(end - log.position().offset).unwrap() - 19 - query_body("d", "").len();
    log.query(&"x".repeat(len));
}

/// The worked example of the reference, section 6.9: three relay logs, no checksums, the second without a Rotate in its head.
/// (Positions are those of contiguous events: 597 stands for 600.)
fn worked_example() -> (PrimaryLog, RelayWriter) {
    let mut log = PrimaryLog::new("mysql-bin.000001".parse().unwrap(), 1, NoChecksum);
    for end in [200, 300, 400, 500, 597] {
        statement_to(&mut log, end);
    }
    log.rotate();
    for end in [210, 310] {
        statement_to(&mut log, end);
    }
    let mut relay = RelayWriter::new(first_relay(), 2, NoChecksum);
    relay.files.clear();
    relay = RelayWriter::new(first_relay(), 2, NoChecksum);
    let mut writer = relay.clone();
    writer.files.truncate(1);
    writer.append(&binlog_core::testing::event(
        EventType::ROTATE,
        1,
        0,
        0x20,
        &binlog_core::event::rotate::body(&pos("mysql-bin.000001:4")),
        NoChecksum,
    ));
    for (i, event) in log.events.iter().enumerate() {
        if i == 4 {
            writer.rotate();
        }
        if event.type_code == EventType::ROTATE {
            // In this example the primary's Rotate ends the relay log it came in.
            writer.append(&event.bytes);
        } else {
            writer.receive(&log, event);
        }
    }
    (log, writer)
}

#[test]
fn the_worked_example_is_located_rightly() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = worked_example();
    assert_eq!(log.position(), &pos("mysql-bin.000002:310"));
    assert_eq!(writer.files.len(), 3);
    let files = writer.write_to(dir.path()).unwrap();
    let latest = pos("mysql-bin.000002:310");
    let logs = RelayLogs::open(files.clone(), ServerId(2), Some(latest.clone())).unwrap();
    assert_eq!(
        logs.survey().unwrap().ranges,
        [range("mysql-bin.000001:4", "mysql-bin.000002:310")]
    );
    // Own format description 4..120; Rotate 43; repeated format description 116.
    for (target, relay) in [
        ("mysql-bin.000001:300", "relay.000001:459"),
        ("mysql-bin.000001:400", "relay.000001:559"),
        ("mysql-bin.000001:500", "relay.000002:336"),
        ("mysql-bin.000001:597", "relay.000002:433"),
        ("mysql-bin.000001:640", "relay.000002:476"),
        ("mysql-bin.000002:4", "relay.000003:163"),
        ("mysql-bin.000002:120", "relay.000003:279"),
        ("mysql-bin.000002:210", "relay.000003:369"),
        ("mysql-bin.000002:310", "relay.000003:469"),
    ] {
        let located = logs.locate(&pos(target)).unwrap();
        assert_eq!(located.position.to_string(), relay, "{target}");
        assert_eq!(located.at_end, target == "mysql-bin.000002:310", "{target}");
    }
    assert!(matches!(
        logs.locate(&pos("mysql-bin.000001:450")),
        Err(LogError::NotABoundary { .. })
    ));
    assert!(matches!(
        logs.locate(&pos("mysql-bin.000002:311")),
        Err(LogError::NotHeld { .. })
    ));
    // The diffs, event by event.
    let output = dir.path().join("diff");
    for from in [
        "mysql-bin.000001:300",
        "mysql-bin.000001:400",
        "mysql-bin.000001:500",
        "mysql-bin.000001:640",
        "mysql-bin.000002:4",
        "mysql-bin.000002:120",
    ] {
        let wanted = StreamRange::new(pos(from), latest.clone());
        let chain = write_cut(logs.plan_cut(&wanted).unwrap(), &output);
        let truth: Vec<_> = log
            .events
            .iter()
            .filter(|e| e.start >= wanted.from && e.type_code == EventType::QUERY)
            .map(|e| e.bytes.clone())
            .collect();
        assert_eq!(common::streamed(&chain, &wanted.from), truth, "{from}");
        assert_eq!(chain.whole_end(), latest);
    }
    // With relay.000001 purged the name of the file is concluded from the Rotate that follows.
    let logs = RelayLogs::open(files[1..].to_vec(), ServerId(2), Some(latest)).unwrap();
    assert_eq!(
        logs.locate(&pos("mysql-bin.000001:500"))
            .unwrap()
            .position
            .to_string(),
        "relay.000002:336"
    );
    for lost in ["mysql-bin.000001:300", "mysql-bin.000001:4"] {
        assert!(matches!(
            logs.locate(&pos(lost)),
            Err(LogError::NotHeld { .. })
        ));
    }
}

#[test]
fn the_file_is_named_by_the_read_position_where_no_rotate_does() {
    let dir = tempfile::tempdir().unwrap();
    let (_, writer) = worked_example();
    let files = writer.write_to(dir.path()).unwrap();
    let cut = std::fs::read(&files[1].1).unwrap();
    std::fs::write(&files[1].1, &cut[..433]).unwrap();
    let open = |latest: Option<&str>| {
        RelayLogs::open(vec![files[1].clone()], ServerId(2), latest.map(pos)).unwrap()
    };
    let located = open(Some("mysql-bin.000001:597"))
        .locate(&pos("mysql-bin.000001:500"))
        .unwrap();
    assert_eq!(located.position.to_string(), "relay.000002:336");
    assert!(open(None).locate(&pos("mysql-bin.000001:500")).is_err());
    // A read position behind what is there does not name it.
    assert!(
        open(Some("mysql-bin.000001:450"))
            .locate(&pos("mysql-bin.000001:500"))
            .is_err()
    );
}

#[test]
fn a_relay_log_with_only_the_replica_s_own_head_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut writer) = worked_example();
    writer.files.truncate(1);
    let own = RelayWriter::new("relay.000002".parse().unwrap(), 2, Crc32);
    writer.files.extend(own.files);
    let files = writer.write_to(dir.path()).unwrap();
    let logs = RelayLogs::open(files, ServerId(2), Some(pos("mysql-bin.000001:400"))).unwrap();
    let located = logs.locate(&pos("mysql-bin.000001:400")).unwrap();
    assert_eq!(
        (located.position.to_string().as_str(), located.at_end),
        ("relay.000001:559", true)
    );
    let survey = logs.survey().unwrap();
    assert_eq!(survey.whole_end, Some(pos("mysql-bin.000001:400")));
}

fn sample(checksum: ChecksumAlgorithm) -> PrimaryLog {
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, checksum);
    log.query("create table t(i int)")
        .transaction(1, 2, 30)
        .rotate()
        .transaction(2, 1, 50);
    log
}

#[test]
fn files_of_both_settings_meet_in_one_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = sample(Crc32);
    log.rotate_with(NoChecksum)
        .transaction(3, 1, 10)
        .rotate_with(Crc32)
        .transaction(4, 1, 10);
    let base = log.write_to(dir.path()).unwrap();
    let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
    writer.connect(&log, &pos("b.000001:4"));
    for event in &log.events {
        writer.receive(&log, event);
    }
    let relay = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    let compared = common::compare(&base, &relay, dir.path());
    assert_eq!((compared.ranges.len(), compared.served), (1, compared.ends));
    assert_eq!(compared.ends, log.events.len());
    let logs = BinaryLogs::open(&base).unwrap();
    let chain = write_cut(
        logs.plan_cut(&pos("b.000001:4"), None).unwrap(),
        &dir.path().join("s"),
    );
    assert_eq!(chain.whole_end(), *log.position());
    let settings: Vec<_> = chain
        .events_from(&pos("b.000001:4"))
        .unwrap()
        .map(Result::unwrap)
        .filter(|e| e.header.type_code == EventType::XID)
        .map(|e| e.checksum)
        .collect();
    assert_eq!(settings, [true, true, false, true]);
}

#[test]
fn a_stop_or_crash_of_the_primary_is_crossed_by_a_made_up_rotate() {
    let dir = tempfile::tempdir().unwrap();
    for clean in [true, false] {
        let mut log = sample(Crc32);
        let before = log.position().clone();
        if clean {
            log.stop()
        } else {
            log.crash()
        };
        log.transaction(9, 1, 10);
        let base = log.write_to(dir.path()).unwrap();
        let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
        writer.connect(&log, &pos("b.000001:4"));
        log.events
            .iter()
            .for_each(|event| writer.receive(&log, event));
        let relay =
            RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
        assert_eq!(relay.survey().unwrap().ranges.len(), 1);
        let compared = common::compare(&base, &relay, dir.path());
        assert_eq!(compared.served, compared.ends);
        let chain = write_cut(
            relay
                .plan_cut(&StreamRange::new(before.clone(), log.position().clone()))
                .unwrap(),
            &dir.path().join("s"),
        );
        let events: Vec<_> = chain
            .events_from(&before)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(events[1].is_made_up() && events[1].header.type_code == EventType::ROTATE);
        assert_eq!(events[1].position_after, pos("b.000003:4"));
        // Cut in two at the start of the file, the pieces meet.
        let (a, b) = (dir.path().join("a"), dir.path().join("c"));
        write_cut(
            relay
                .plan_cut(&StreamRange::new(pos("b.000001:4"), pos("b.000003:4")))
                .unwrap(),
            &a,
        );
        write_cut(
            relay
                .plan_cut(&StreamRange::new(pos("b.000003:4"), log.position().clone()))
                .unwrap(),
            &b,
        );
        let joined = SegmentChain::open(&[a, b]).unwrap();
        assert_eq!(joined.whole_end(), *log.position());
    }
}

#[test]
fn the_place_between_two_files_is_a_boundary() {
    let dir = tempfile::tempdir().unwrap();
    let log = sample(Crc32);
    let rotates = |event: &WrittenEvent| event.type_code == EventType::ROTATE;
    let rotate = log.events.iter().position(rotates).unwrap();
    // Nothing of the next file came yet: an empty range needs no format description.
    let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
    writer.connect(&log, &pos("b.000001:4"));
    for event in &log.events[..=rotate] {
        writer.receive(&log, event);
    }
    let relay = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    let plan = relay.plan_cut(&range("b.000002:4", "b.000002:4")).unwrap();
    assert!(matches!(plan, CutPlan::Nothing(_)), "{plan:?}");
    // Relay logs were purged, and the Rotate alone is left of its file.
    let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
    writer.append(&log.events[rotate].bytes);
    for event in &log.events[rotate + 1..] {
        writer.receive(&log, event);
    }
    let relay = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    for (i, from) in [&log.events[rotate].start, &log.events[rotate].end]
        .into_iter()
        .enumerate()
    {
        let rest = StreamRange::new(from.clone(), log.position().clone());
        let output = dir.path().join(format!("segment-{i}"));
        let chain = write_cut(relay.plan_cut(&rest).unwrap(), &output);
        assert_eq!(chain.whole_end(), *log.position(), "from {from}");
    }
}

#[test]
fn only_closing_events_are_nothing_to_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = sample(Crc32);
    let end = log.position().clone();
    log.event(EventType::STOP, &[]);
    let logs = BinaryLogs::open(&log.write_to(dir.path()).unwrap()).unwrap();
    let CutPlan::Nothing(nothing) = logs.plan_cut(&end, None).unwrap() else {
        panic!()
    };
    assert_eq!(nothing.reason, NothingReason::OnlyClosing);
    assert!(matches!(nothing.end, LogEnd::Clean { .. }));
    assert_eq!(logs.survey(None).unwrap().whole_end, Some(end.clone()));
    assert_eq!(logs.survey(Some(&end)).unwrap().whole_end, Some(end));
}

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

/// The receiver repeated the description of a file without, behind an event that is cut off, before it went back.
#[test]
fn a_description_that_came_while_nothing_was_known_says_nothing_of_a_new_connection() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, NoChecksum);
    log.transaction(1, 1, 20).rotate_with(Crc32);
    let (start, xid) = (&log.events[0].start, 4);
    let mut writer = RelayWriter::new(first_relay(), 9, NoChecksum);
    writer.connect(&log, start);
    for event in &log.events {
        writer.receive(&log, event);
    }
    writer.files.last_mut().unwrap().1.truncate(200);
    writer.rotate();
    writer.connect(&log, &log.events[xid].start);
    for event in &log.events[xid..] {
        writer.receive(&log, event);
    }
    let files = writer.write_to(dir.path()).unwrap();
    let relay = RelayLogs::open(files, ServerId(9), None).unwrap();
    let whole = StreamRange::new(start.clone(), log.position().clone());
    assert_eq!(relay.survey().unwrap().ranges, [whole]);
}

#[test]
fn what_a_receiver_skipped_is_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let log = sample(Crc32);
    // Each data event dropped in turn, as for an ignored server id.
    for (i, dropped) in log.events.iter().enumerate() {
        if matches!(
            dropped.type_code,
            EventType::FORMAT_DESCRIPTION | EventType::ROTATE
        ) || i + 1 == log.events.len()
        {
            continue;
        }
        let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
        writer.connect(&log, &pos("b.000001:4"));
        log.events
            .iter()
            .filter(|event| event.start != dropped.start)
            .for_each(|event| writer.receive(&log, event));
        let relay =
            RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
        let survey = relay.survey().unwrap();
        let next = if log.events[i + 1].type_code == EventType::ROTATE {
            dropped.end.clone()
        } else {
            log.events[i + 1].start.clone()
        };
        assert_eq!(
            survey.holes,
            [StreamRange::new(dropped.start.clone(), next)],
            "{}",
            dropped.start
        );
        let all = StreamRange::new(pos("b.000001:4"), log.position().clone());
        assert!(matches!(relay.plan_cut(&all), Err(LogError::Hole { .. })));
    }
}

#[test]
fn relay_logs_of_another_source_or_time_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let old = sample(Crc32);
    let mut new = PrimaryLog::new("b.000001".parse().unwrap(), 5, Crc32);
    new.transaction(50, 1, 10);
    let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
    writer.connect(&old, &pos("b.000001:4"));
    old.events
        .iter()
        .for_each(|event| writer.receive(&old, event));
    writer.connect(&new, &pos("b.000001:4"));
    new.events
        .iter()
        .for_each(|event| writer.receive(&new, event));
    let relay = RelayLogs::open(
        writer.write_to(dir.path()).unwrap(),
        ServerId(9),
        Some(new.position().clone()),
    )
    .unwrap();
    let survey = relay.survey().unwrap();
    assert_eq!(
        survey.ranges,
        [StreamRange::new(pos("b.000001:4"), new.position().clone())]
    );
    assert_eq!(survey.last_transaction.unwrap().xid, Some(50));
}

#[test]
fn a_receiver_that_went_back_is_believed_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = sample(Crc32);
    let base = log.write_to(dir.path()).unwrap();
    let again = log
        .events
        .iter()
        .find(|e| e.type_code == EventType::XID)
        .unwrap()
        .end
        .clone();
    let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
    writer.connect(&log, &pos("b.000001:4"));
    log.events
        .iter()
        .for_each(|event| writer.receive(&log, event));
    writer.connect(&log, &again);
    log.events
        .iter()
        .filter(|event| event.start >= again)
        .for_each(|event| writer.receive(&log, event));
    let relay = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    let compared = common::compare(&base, &relay, dir.path());
    assert_eq!((compared.ranges.len(), compared.served), (1, compared.ends));
    assert_eq!(compared.ends, log.events.len());
}

#[test]
fn the_directory_is_checked_against_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PrimaryLog::new("b.999999".parse().unwrap(), 1, Crc32);
    log.transaction(1, 1, 1).rotate().transaction(2, 1, 1);
    let base = log.write_to(dir.path()).unwrap();
    std::fs::write(dir.path().join("b.000004.bak"), b"x").unwrap();
    std::fs::write(dir.path().join("b.1000001.gz"), b"x").unwrap();
    let logs = BinaryLogs::open(&base).unwrap();
    assert_eq!(
        logs.files().iter().map(|f| f.as_str()).collect::<Vec<_>>(),
        ["b.999999", "b.1000000"]
    );
    assert_eq!(
        logs.survey(Some(&pos("b.999999:4"))).unwrap().ranges,
        [StreamRange::new(pos("b.999999:4"), log.position().clone())]
    );
    std::fs::remove_file(dir.path().join("b.999999")).unwrap();
    assert!(matches!(
        BinaryLogs::open(&base),
        Err(LogError::Missing { .. })
    ));
    std::fs::write(dir.path().join("b.index"), "./b.1000000\n").unwrap();
    assert_eq!(BinaryLogs::open(&base).unwrap().files().len(), 1);
    assert!(matches!(
        BinaryLogs::open(&dir.path().join("c")),
        Err(LogError::NoFiles { .. })
    ));
}

#[test]
fn damage_in_an_older_file_stops_a_cut_and_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let log = sample(Crc32);
    let base = log.write_to(dir.path()).unwrap();
    let path = dir.path().join("b.000001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[130] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let logs = BinaryLogs::open(&base).unwrap();
    assert!(matches!(
        logs.plan_cut(&pos("b.000001:4"), None),
        Err(LogError::Corrupt { offset: 120, .. })
    ));
    assert!(matches!(
        logs.plan_cut(&pos("b.000002:4"), None),
        Ok(CutPlan::Cut(_))
    ));
}

/// What a random receiver does before an event.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Go,
    Rotate,
    Reconnect,
    RestartAtLastTransaction,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![6 => Just(Act::Go), 2 => Just(Act::Rotate), 2 => Just(Act::Reconnect), 1 => Just(Act::RestartAtLastTransaction)]
}

#[derive(Debug, Clone)]
enum Write {
    Transaction(usize, usize),
    Ddl,
    Rotate(bool),
    Stop,
    Crash,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let one = prop_oneof![
        5 => (0..4_usize, 0..200_usize).prop_map(|(rows, len)| Write::Transaction(rows, len)),
        2 => Just(Write::Ddl),
        1 => any::<bool>().prop_map(Write::Rotate),
        1 => Just(Write::Stop),
        1 => Just(Write::Crash),
    ];
    proptest::collection::vec(one, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the primary wrote and however the receiver cut it up: every event end is located, and the segment from
    /// there holds exactly the primary's events.
    #[test]
    fn every_cut_of_a_random_relay_log_equals_the_primary(writes in writes(), acts in proptest::collection::vec(acts(), 120), keep in 0..3_usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = PrimaryLog::new("b.000009".parse().unwrap(), 1, Crc32);
        for (i, write) in writes.iter().enumerate() {
            match write {
                Write::Transaction(rows, len) => log.transaction(i as u64, *rows, *len),
                Write::Ddl => log.query("create table x(i int)"),
                Write::Rotate(sums) => log.rotate_with(if *sums { Crc32 } else { NoChecksum }),
                Write::Stop => log.stop(),
                Write::Crash => log.crash(),
            };
        }
        let base = log.write_to(dir.path()).unwrap();
        let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
        writer.connect(&log, &log.events[0].start.clone());
        let mut whole = 0;
        let mut i = 0;
        for act in acts.iter().chain(std::iter::repeat(&Act::Go)) {
            let Some(event) = log.events.get(i) else { break };
            let head = event.type_code == EventType::FORMAT_DESCRIPTION;
            match act {
                Act::Rotate if i > 0 => writer.rotate(),
                Act::Reconnect if !head => writer.connect(&log, &event.start),
                Act::RestartAtLastTransaction if whole > 0 && whole < i && !head => {
                    i = whole;
                    writer.connect(&log, &log.events[i].start.clone());
                    whole = 0;
                    continue;
                }
                _ => {}
            }
            writer.receive(&log, event);
            i += 1;
            if event.type_code == EventType::XID && log.events.get(i).is_some_and(|e| e.start.file == event.start.file) {
                whole = i;
            }
        }
        let mut files = writer.write_to(dir.path()).unwrap();
        files.drain(..keep.min(files.len() - 1));
        let relay = RelayLogs::open(files, ServerId(9), Some(log.position().clone())).unwrap();
        let compared = common::compare(&base, &relay, dir.path());
        prop_assert_eq!(compared.served, compared.ends);
        if keep == 0 {
            prop_assert_eq!(compared.ranges.len(), 1, "{:?}", compared.ranges);
            let stops = log.events.iter().filter(|e| e.type_code == EventType::STOP).count();
            prop_assert_eq!(compared.ends, log.events.len() - stops);
        }
    }

    /// Damage anywhere in a relay log: no panic, and nothing is served that the primary did not write.
    #[test]
    fn a_damaged_relay_log_never_serves_what_the_primary_did_not_write(file in 0..3_usize, at in 0.0..1.0_f64, bit in 0..8_u8, cut in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let log = sample(Crc32);
        let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
        writer.connect(&log, &pos("b.000001:4"));
        for (i, event) in log.events.iter().enumerate() {
            if i == 3 {
                writer.rotate();
            }
            writer.receive(&log, event);
        }
        let index = file.min(writer.files.len() - 1);
        let bytes = &mut writer.files[index].1;
        let place = ((bytes.len() - 1) as f64 * at) as usize;
        if cut { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
        let files = writer.write_to(dir.path()).unwrap();
        let base = log.write_to(dir.path()).unwrap();
        let truth = common::truth(&base);
        if let Ok(relay) = RelayLogs::open(files, ServerId(9), None) {
            let survey = relay.survey().unwrap();
            for range in &survey.ranges {
                if let CutPlan::Cut(cut) = relay.plan_cut(range).unwrap() {
                    cut.write(&dir.path().join("s"), "test", &mut |_| ()).unwrap();
                    let chain = SegmentChain::open(&[dir.path().join("s")]).unwrap();
                    prop_assert_eq!(common::streamed(&chain, &range.from), common::expected(&truth, range));
                }
            }
        }
    }
}
