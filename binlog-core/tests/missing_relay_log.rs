//! A relay log that is gone: what is left of a file says nothing of what went with it.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use binlog_core::checksum::ChecksumAlgorithm::Crc32;
use binlog_core::testing::{PrimaryLog, RelayWriter, WrittenEvent};
use binlog_core::{CutPlan, EventType, RelayLogs, ServerId, StreamRange};

fn of_type(log: &PrimaryLog, type_code: EventType, number: usize) -> usize {
    let wanted = |(i, event): (usize, &WrittenEvent)| (event.type_code == type_code).then_some(i);
    let mut all = log.events.iter().enumerate().filter_map(wanted);
    all.nth(number).unwrap()
}

/// The relay log with the second file's description and data is gone; its Rotate alone, in the next one, is left. The first
/// file's description is not the second's.
#[test]
fn a_description_from_before_the_missing_one_describes_its_own_file_only() {
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, Crc32);
    log.transaction(1, 2, 30).rotate();
    log.transaction(2, 1, 50).rotate();
    log.transaction(3, 1, 50);
    let first_rotate = of_type(&log, EventType::ROTATE, 0);
    let second_rotate = of_type(&log, EventType::ROTATE, 1);
    let next = &log.events[of_type(&log, EventType::FORMAT_DESCRIPTION, 2)];

    let mut before = RelayWriter::new("relay.000001".parse().unwrap(), 9, Crc32);
    before.connect(&log, &"b.000001:4".parse().unwrap());
    for event in &log.events[..=first_rotate] {
        before.receive(&log, event);
    }
    // Opened for the Rotate by a receiver that does not repeat the description then.
    let mut after = RelayWriter::new("relay.000005".parse().unwrap(), 9, Crc32);
    after.append(&log.events[second_rotate].bytes);
    for event in &log.events[second_rotate + 1..] {
        after.receive(&log, event);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut files = before.write_to(dir.path()).unwrap();
    files.extend(after.write_to(dir.path()).unwrap());
    let relay = RelayLogs::open(files, ServerId(9), None).unwrap();

    let rotate = &log.events[second_rotate];
    for (i, from) in [&rotate.start, &rotate.end].into_iter().enumerate() {
        let rest = StreamRange::new(from.clone(), log.position().clone());
        let plan = relay.plan_cut(&rest).unwrap();
        let CutPlan::Cut(cut) = plan else {
            panic!("{plan:?}")
        };
        let output = dir.path().join(format!("segment-{i}"));
        cut.write(&output, "test", &mut |_| ()).unwrap();
        // The first event's timestamp, behind the magic number: each description here has its own.
        let segment = std::fs::read(&output).unwrap();
        assert_eq!(segment[4..8], next.bytes[..4], "from {from}");
    }
}
