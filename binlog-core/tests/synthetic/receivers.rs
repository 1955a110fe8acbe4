//! What receivers do: skip, go back, connect to another source, repeat a description.

use binlog_core::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
use binlog_core::testing::{PrimaryLog, RelayWriter};
use binlog_core::{EventType, LogError, RelayLogs, ServerId, StreamRange};

use crate::{common, first_relay, pos, sample};

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

/// A receiver that states no position behind the Previous_gtids which it does not store: where the set is empty nothing else
/// can have stood there, where it is not, a statement can.
#[test]
fn an_empty_set_behind_the_head_is_no_hole_whatever_the_receiver_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = 1_u64.to_le_bytes().to_vec();
    one.extend_from_slice(&[7; 16]);
    for number in [1_u64, 1, 2] {
        one.extend_from_slice(&number.to_le_bytes());
    }
    for checksum in [Crc32, NoChecksum] {
        for (body, whole) in [(&0_u64.to_le_bytes()[..], true), (&one, false)] {
            let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, checksum);
            log.event(EventType::PREVIOUS_GTIDS, body)
                .transaction(1, 1, 30);
            let mut writer = RelayWriter::new(first_relay(), 9, checksum);
            writer.connect(&log, &pos("b.000001:4"));
            for event in &log.events {
                writer.receive(&log, event);
            }
            let files = writer.write_to(dir.path()).unwrap();
            let relay = RelayLogs::open(files, ServerId(9), None).unwrap();
            let survey = relay.survey().unwrap();
            assert_eq!(survey.holes.is_empty(), whole, "{checksum:?} {survey:?}");
            assert_eq!(survey.whole_end.as_ref(), Some(log.position()));
        }
    }
}
