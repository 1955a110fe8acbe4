//! Relay logs that no honest receiver writes, each found by the fuzz targets: whatever they claim, ranges stay in order and
//! a segment holds nothing that could be misread.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use binlog_core::checksum::ChecksumAlgorithm::{self, Crc32, None as NoChecksum};
use binlog_core::event::{FLAG_ARTIFICIAL, FLAG_RELAY_LOG, rotate};
use binlog_core::testing::{PrimaryLog, RelayWriter, event, format_description_body};
use binlog_core::{
    BinlogPosition, CutPlan, EventType, LogError, Manifest, RelayLogs, SegmentChain, ServerId,
    StreamRange, Survey,
};

fn pos(text: &str) -> BinlogPosition {
    text.parse().unwrap()
}

fn range(from: &str, to: &str) -> StreamRange {
    StreamRange::new(pos(from), pos(to))
}

/// A log of one file with a transaction of 4 events, and what a receiver wrote of it: [b.000001:4, end).
fn received() -> (PrimaryLog, RelayWriter, BinlogPosition) {
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, Crc32);
    log.transaction(1, 1, 20);
    let mut writer = RelayWriter::new("relay.000001".parse().unwrap(), 9, Crc32);
    writer.connect(&log, &pos("b.000001:4"));
    for event in &log.events {
        writer.receive(&log, event);
    }
    let end = log.position().clone();
    (log, writer, end)
}

fn rotate_to(server_id: u32, log_pos: u64, flags: u16, to: &str) -> Vec<u8> {
    let body = rotate::body(&pos(to));
    let log_pos = u32::try_from(log_pos).unwrap();
    event(EventType::ROTATE, server_id, log_pos, flags, &body, Crc32)
}

/// A Rotate that the primary wrote at `at`.
fn primary_rotate(at: u64, to: &str) -> Vec<u8> {
    let size = rotate_to(1, 0, 0, to).len() as u64;
    rotate_to(1, at + size, 0, to)
}

fn xid(end: u64, checksum: ChecksumAlgorithm) -> Vec<u8> {
    event(
        EventType::XID,
        1,
        u32::try_from(end).unwrap(),
        0,
        &[0; 8],
        checksum,
    )
}

/// Surveys; every range can be cut and read again, in order, and nothing overlaps.
fn survey(writer: &RelayWriter) -> Survey {
    let dir = tempfile::tempdir().unwrap();
    let logs = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    let survey = logs.survey().unwrap();
    for pair in survey.ranges.windows(2) {
        assert!(pair[0].to <= pair[1].from, "{:?}", survey.ranges);
    }
    for range in &survey.ranges {
        assert!(range.from <= range.to, "{range}");
        match logs.plan_cut(range) {
            Ok(CutPlan::Cut(cut)) => {
                let output = dir.path().join("segment");
                cut.write(&output, "test", &mut |_| ()).unwrap();
                let chain = SegmentChain::open(&[output]).unwrap();
                assert_eq!(chain.range(), *range);
                for event in chain.events_from(&range.from).unwrap() {
                    event.unwrap();
                }
            }
            Ok(CutPlan::Nothing(_)) => assert!(range.is_empty(), "{range}"),
            Err(LogError::NoFormatDescription { .. }) => {}
            Err(e) => panic!("{range}: {e}"),
        }
    }
    survey
}

#[test]
fn a_rotate_that_leads_back_ends_what_is_believed() {
    for to in ["b.000001:4", "b.000003:4", "a.000002:4", "b.000002:400"] {
        let (_, mut writer, end) = received();
        writer.append(&primary_rotate(end.offset, to));
        let survey = survey(&writer);
        assert_eq!(
            survey.ranges,
            [range("b.000001:4", &end.to_string())],
            "{to}"
        );
    }
    let (_, mut writer, end) = received();
    writer.append(&primary_rotate(end.offset, "b.000002:4"));
    assert_eq!(survey(&writer).ranges, [range("b.000001:4", "b.000002:4")]);
}

#[test]
fn no_event_but_a_format_description_stands_at_the_head_of_a_file() {
    let (_, mut writer, end) = received();
    writer.rotate();
    writer.append(&rotate_to(1, 0, FLAG_ARTIFICIAL, "b.000002:4"));
    writer.append(&xid(4 + 31, Crc32));
    let survey = survey(&writer);
    assert_eq!(survey.ranges[0].from, pos("b.000001:4"));
    assert_eq!(survey.last_transaction.unwrap().end, end);
}

#[test]
fn an_older_rotate_is_not_put_before_newer_events() {
    let (log, mut writer, end) = received();
    // The oldest file: only the Rotate from behind that transaction to the next file.
    let mut older = RelayWriter::new("relay.000000".parse().unwrap(), 9, Crc32);
    older.append(&primary_rotate(end.offset, "b.000002:4"));
    // The newest: again in the first file, far behind that place.
    writer.connect(&log, &BinlogPosition::new(end.file.clone(), 9000));
    writer.append(&xid(9031, Crc32));
    writer.files.insert(0, older.files[0].clone());
    let survey = survey(&writer);
    assert_eq!(
        survey.ranges,
        [
            StreamRange::new(pos("b.000001:4"), end),
            range("b.000001:9000", "b.000001:9031")
        ]
    );
}

/// Events without checksums behind a description that announces them, or the other way round, cannot be read again.
#[test]
fn a_setting_that_changes_inside_a_file_ends_what_is_believed() {
    for (server_id, flags, log_pos) in [(9, FLAG_RELAY_LOG, 120), (1, 0, 1), (1, 0, 0)] {
        let (log, mut writer, end) = received();
        let body = format_description_body("5.6.24-log", 0, NoChecksum);
        let description = EventType::FORMAT_DESCRIPTION;
        writer.append(&event(description, server_id, log_pos, flags, &body, Crc32));
        writer.append(&xid(end.offset + 27, NoChecksum));
        let survey = survey(&writer);
        assert_eq!(
            survey.ranges,
            [StreamRange::new(pos("b.000001:4"), end.clone())]
        );
        assert_eq!(survey.whole_end, Some(end));
        assert_eq!(log.events.len(), 5);
    }
    // The Rotate to the next file under another setting.
    let (_, mut writer, end) = received();
    let mut other = RelayWriter::new("relay.000009".parse().unwrap(), 9, NoChecksum);
    let body = rotate::body(&pos("b.000002:4"));
    let log_pos = u32::try_from(end.offset).unwrap() + 19 + u32::try_from(body.len()).unwrap();
    other.append(&event(EventType::ROTATE, 1, log_pos, 0, &body, NoChecksum));
    writer.files.extend(other.files);
    let survey = survey(&writer);
    assert_eq!(survey.ranges, [StreamRange::new(pos("b.000001:4"), end)]);
}

/// A receiver names the place behind a Previous_gtids event, which is never larger than a packet; where transactions that
/// the source skipped could hide beside it, what follows must be the first one of the file.
#[test]
fn terabytes_are_no_previous_gtids() {
    for (place, ranges) in [(191, 1), (1000, 2), (0xd200_0000_00f6, 2)] {
        let log = PrimaryLog::new("b.000001".parse().unwrap(), 1, Crc32);
        let mut writer = RelayWriter::new("relay.000001".parse().unwrap(), 9, Crc32);
        writer.connect(&log, &pos("b.000001:4"));
        writer.receive(&log, &log.events[0]);
        writer.append(&rotate_to(0, 0, 0, &format!("b.000001:{place}")));
        writer.append(&xid((place & 0xffff_ffff) + 31, Crc32));
        assert_eq!(survey(&writer).ranges.len(), ranges, "{place}");
    }
}

/// What a transaction began with is not thrown away before it, although nothing describes it.
#[test]
fn an_unfinished_transaction_is_told_from_what_it_began_with() {
    let data =
        |type_code, end: u32, len: usize| event(type_code, 1, end, 0, &vec![0; len - 23], Crc32);
    let mut writer = RelayWriter::new("relay.000001".parse().unwrap(), 9, Crc32);
    writer.append(&rotate_to(0, 0, 0, "b.000001:246"));
    writer.append(&data(EventType::MARIADB_ANNOTATE_ROWS, 315, 69));
    let local = event(
        EventType::TABLE_MAP,
        1,
        730,
        FLAG_RELAY_LOG,
        &[0; 30],
        Crc32,
    );
    writer.append(&local);
    writer.append(&data(EventType::TABLE_MAP, 363, 48));
    let dir = tempfile::tempdir().unwrap();
    let logs = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    let tail = logs.unfinished_tail().unwrap().unwrap();
    assert_eq!(
        (tail.start, tail.end),
        (pos("b.000001:246"), pos("b.000001:363"))
    );
}

/// The setting of a file never changes: a description with another one is not that of the events before it, and hides
/// nothing that describes them.
#[test]
fn a_description_of_another_file_is_not_that_of_what_came_before() {
    let (_, mut writer, end) = received();
    // Nothing is known any more; then a connection begins at the head of the file and skips what is there.
    writer.append(&xid(1, Crc32));
    writer.append(&rotate_to(1, 0, FLAG_ARTIFICIAL, "b.000001:4"));
    writer.append(&xid(end.offset + 31, Crc32));
    let description = format_description_body("5.6.24-log", 0, NoChecksum);
    let format = EventType::FORMAT_DESCRIPTION;
    writer.append(&event(format, 1, 0, 0, &description, Crc32));
    let after = BinlogPosition::new(end.file.clone(), end.offset + 31);
    let whole = StreamRange::new(pos("b.000001:4"), after.clone());
    assert_eq!(survey(&writer).ranges, std::slice::from_ref(&whole));
    let dir = tempfile::tempdir().unwrap();
    let logs = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    for range in [whole, StreamRange::new(end, after)] {
        assert!(
            matches!(logs.plan_cut(&range), Ok(CutPlan::Cut(_))),
            "{range}"
        );
    }
}

#[test]
fn a_file_of_which_nothing_was_received_is_missing() {
    let (_, mut writer, end) = received();
    writer.append(&primary_rotate(end.offset, "b.000002:4"));
    let mut next = PrimaryLog::new("b.000003".parse().unwrap(), 1, Crc32);
    next.transaction(3, 1, 20);
    writer.connect(&next, &pos("b.000003:4"));
    for event in &next.events {
        writer.receive(&next, event);
    }
    let survey = survey(&writer);
    assert_eq!(survey.holes, [range("b.000002:4", "b.000003:4")]);
}

/// The format description in the manifest is what servers are sent: it is the segment's own.
#[test]
fn a_manifest_cannot_exchange_the_format_description() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer, end) = received();
    let logs = RelayLogs::open(writer.write_to(dir.path()).unwrap(), ServerId(9), None).unwrap();
    for from in [pos("b.000001:4"), log.events[1].start.clone()] {
        let wanted = StreamRange::new(from.clone(), end.clone());
        let CutPlan::Cut(cut) = logs.plan_cut(&wanted).unwrap() else {
            panic!("nothing to cut")
        };
        let output = dir.path().join("segment");
        let good = cut.write(&output, "test", &mut |_| ()).unwrap();
        SegmentChain::open(std::slice::from_ref(&output)).unwrap();
        for at in [0, 4, 5, 13, 21, 100] {
            let mut raw = hex::decode(&good.original_format_description).unwrap();
            raw[at] ^= 0x40;
            let bad = Manifest {
                original_format_description: hex::encode(raw),
                ..good.clone()
            };
            std::fs::write(Manifest::path_for(&output), bad.to_json()).unwrap();
            let opened = SegmentChain::open(std::slice::from_ref(&output));
            assert!(
                matches!(opened, Err(LogError::BadManifest { .. })),
                "{from} {at}"
            );
        }
    }
}
