//! MariaDB 11.4 and newer leave out where events inside a transaction end. What is held is the same as if they said it, in the
//! primary's log and in a replica's, and an event that is missing inside is still noticed.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::path::Path;

use binlog_core::checksum::ChecksumAlgorithm::Crc32;
use binlog_core::checksum::crc32;
use binlog_core::segment::SegmentChain;
use binlog_core::testing::{PrimaryLog, RelayWriter, WrittenEvent, event};
use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, EventHeader, EventType, RelayFileName, RelayLogs,
    ServerId, Survey,
};

/// Three groups of a Table_map and rows between GTID and XID.
fn log() -> PrimaryLog {
    let file = "b.000001".parse().unwrap();
    let mut log = PrimaryLog::with_version(file, 1, Crc32, "11.8.6-MariaDB-log");
    for seq_no in 1..=3 {
        log.mariadb_gtid(0, seq_no, 0);
        for row in [40, 300] {
            log.event(EventType::TABLE_MAP, &[7; 20]);
            log.event(EventType::WRITE_ROWS, &vec![0x5a; row]);
        }
        log.xid(seq_no);
    }
    log
}

/// The events of a file: offset, type, bytes.
fn events(file: &[u8]) -> Vec<(usize, EventType, Vec<u8>)> {
    let (mut at, mut found) = (4, Vec::new());
    while let Some(header) = file.get(at..).and_then(EventHeader::parse) {
        let end = at + header.event_size as usize;
        found.push((at, header.type_code, file[at..end].to_vec()));
        at = end;
    }
    found
}

/// The same file as 11.4 and newer write it; without the event with number `missing`.
fn unplaced(file: &[u8], missing: Option<usize>) -> Vec<u8> {
    let mut out = file[..4].to_vec();
    for (number, (_, type_code, mut bytes)) in events(file).into_iter().enumerate() {
        if Some(number) == missing {
            continue;
        }
        if matches!(type_code, EventType::TABLE_MAP | EventType::WRITE_ROWS) {
            bytes[13..17].fill(0);
            let (content, sum) = bytes.split_last_chunk_mut::<4>().unwrap();
            *sum = crc32(content).to_le_bytes();
        }
        out.extend(bytes);
    }
    out
}

fn of_primary(folder: &Path, content: &[u8]) -> (BinaryLogs, Survey) {
    std::fs::write(folder.join("b.000001"), content).unwrap();
    std::fs::write(folder.join("b.index"), "./b.000001\n").unwrap();
    let logs = BinaryLogs::open(&folder.join("b")).unwrap();
    let survey = logs.survey(None).unwrap();
    (logs, survey)
}

/// A relay log of a replica that has received all of the log.
fn of_replica(folder: &Path, missing: Option<usize>) -> (RelayLogs, Survey) {
    let log = log();
    let first: RelayFileName = "relay.000001".parse().unwrap();
    let mut writer = RelayWriter::new(first, 2, Crc32);
    writer.connect(&log, &"b.000001:4".parse().unwrap());
    let received = log.file(&"b.000001".parse().unwrap());
    for (_, _, bytes) in events(&unplaced(&received, missing)) {
        writer.append(&bytes);
    }
    let files = writer.write_to(folder).unwrap();
    let logs = RelayLogs::open(files, ServerId(2), None).unwrap();
    let survey = logs.survey().unwrap();
    (logs, survey)
}

#[test]
fn the_primarys_log_is_held_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = log().file(&"b.000001".parse().unwrap());
    let (_, placed) = of_primary(folder.path(), &file);
    let (logs, found) = of_primary(folder.path(), &unplaced(&file, None));
    assert_eq!(found.ranges, placed.ranges);
    assert_eq!(found.whole_end, Some(log().position().clone()));
    assert_eq!(found.end, placed.end);

    // A segment that begins inside of a group holds the same bytes, and is opened again.
    let bytes = unplaced(&file, None);
    for (offset, _, _) in events(&bytes).into_iter().skip(1) {
        let from = BinlogPosition::new("b.000001".parse().unwrap(), offset as u64);
        let to = log().position().clone();
        let CutPlan::Cut(cut) = logs.plan_cut(&from, Some(&to)).unwrap() else {
            panic!("nothing from {from}");
        };
        let segment = folder.path().join("segment");
        cut.write(&segment, "test", &mut |_| ()).unwrap();
        assert!(std::fs::read(&segment).unwrap().ends_with(&bytes[offset..]));
        let chain = SegmentChain::open(&[segment]).unwrap();
        let read: Result<Vec<_>, _> = chain.events_from(&from).unwrap().collect();
        assert_eq!(read.unwrap().last().unwrap().position_after, to);
    }
}

#[test]
fn a_relay_log_is_held_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, survey) = of_replica(folder.path(), None);
    assert_eq!(survey.whole_end, Some(log().position().clone()));
    assert_eq!(survey.ranges.len(), 1, "{:?}", survey.ranges);
    let located = logs.locate(log().position()).unwrap();
    assert_eq!(located.position.file.as_str(), "relay.000002");
}

#[test]
fn an_event_that_is_missing_inside_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = log().file(&"b.000001".parse().unwrap());
    let all = events(&file);
    // Of the second group: its Table_map and its rows.
    for (missing, (_, type_code, _)) in all.iter().enumerate().take(12).skip(8) {
        assert!(matches!(
            *type_code,
            EventType::TABLE_MAP | EventType::WRITE_ROWS
        ));
        let group = all[7].0 as u64;
        let (_, survey) = of_primary(folder.path(), &unplaced(&file, Some(missing)));
        assert_eq!(survey.whole_end.unwrap().offset, group, "event {missing}");
        let relay = tempfile::tempdir().unwrap();
        let (_, survey) = of_replica(relay.path(), Some(missing));
        let holed = survey
            .ranges
            .iter()
            .all(|range| range.from.offset > group || range.to.offset < log().position().offset);
        assert!(holed, "event {missing}: {:?}", survey.ranges);
    }
}

/// How a receiver came to open a new relay log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// The one before it was full.
    Full,
    /// It connected again, by position.
    Connected,
}

/// Relay logs of a replica that received all of the log, the newest opened before the event with number `at`.
fn in_two_files(at: usize, opened: Opened) -> RelayWriter {
    in_two_files_with(at, opened, &|_, _| ())
}

/// The same; `change` gets the number and the bytes of each event.
fn in_two_files_with(
    at: usize,
    opened: Opened,
    change: &dyn Fn(usize, &mut Vec<u8>),
) -> RelayWriter {
    let mut log = log();
    let name = "b.000001".parse().unwrap();
    let unplaced = events(&unplaced(&log.file(&name), None));
    for (number, (event, (_, _, bytes))) in log.events.iter_mut().zip(unplaced).enumerate() {
        event.bytes = bytes;
        change(number, &mut event.bytes);
    }
    let mut writer = RelayWriter::new("relay.000001".parse().unwrap(), 2, Crc32);
    writer.connect(&log, &"b.000001:4".parse().unwrap());
    for (number, event) in log.events.iter().enumerate() {
        if number == at {
            match opened {
                Opened::Full => writer.rotate(),
                Opened::Connected => writer.connect(&log, &event.start),
            }
        }
        writer.receive(&log, event);
    }
    writer
}

fn opened(folder: &Path, writer: &RelayWriter) -> RelayLogs {
    let files = writer.write_to(folder).unwrap();
    RelayLogs::open(files, ServerId(2), None).unwrap()
}

/// Every place between two events.
fn places() -> Vec<BinlogPosition> {
    let ends = log().events;
    ends.into_iter().map(|event| event.end).collect()
}

#[test]
fn a_relay_log_that_is_opened_inside_a_group_goes_on_with_it() {
    let end = log().position().clone();
    let last = places().len();
    for way in [Opened::Full, Opened::Connected] {
        for at in 1..last {
            let folder = tempfile::tempdir().unwrap();
            let writer = in_two_files(at, way);
            let logs = opened(folder.path(), &writer);
            let survey = logs.survey().unwrap();
            assert_eq!(survey.whole_end, Some(end.clone()), "{way:?} {at}");
            assert_eq!(survey.ranges.len(), 1, "{way:?} {at}: {:?}", survey.ranges);
            for place in places() {
                // Asked without a walk, the answer is that of a walk.
                let walked = logs.locate(&place).unwrap();
                let asked = opened(folder.path(), &writer).locate(&place).unwrap();
                assert_eq!(asked, walked, "{way:?} {at} {place}");
                if place < end {
                    let first = logs.first_event(&place).unwrap();
                    let asked = opened(folder.path(), &writer).first_event(&place).unwrap();
                    assert_eq!(asked, first, "{way:?} {at} {place}");
                    assert!(!first.at_end, "{way:?} {at} {place}");
                }
            }
        }
    }
}

/// Half of a group in the newest relay log is still something that was received.
#[test]
fn what_begins_inside_a_group_and_never_ends_is_no_silence() {
    let all = log().events;
    let group = all
        .iter()
        .rposition(|event| event.type_code == EventType::MARIADB_GTID)
        .unwrap();
    for at in group + 1..all.len() - 1 {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = in_two_files(at, Opened::Full);
        let (_, newest) = writer.files.last_mut().unwrap();
        newest.truncate(newest.len() - all.last().unwrap().bytes.len());
        let place = &all[at].start;
        let located = opened(folder.path(), &writer).locate(place).unwrap();
        assert!(!located.at_end, "{at}");
        let survey = opened(folder.path(), &writer).survey().unwrap();
        assert_eq!(survey.data_end.as_ref(), all.last().map(|e| &e.start));
        assert_eq!(survey.whole_end, Some(all[group].start.clone()));
    }
}

/// Between two files of which the older one does not name the newer one anything may be missing: no place is found by counting.
#[test]
fn what_begins_inside_a_group_behind_a_missing_file_is_not_held() {
    let all = log().events;
    for (missing, event) in all.iter().enumerate().take(all.len() - 1).skip(1) {
        // The file that held this event alone is gone.
        let mut writer = in_two_files(missing, Opened::Full);
        let (_, rest) = in_two_files(missing + 1, Opened::Full).files.pop().unwrap();
        let newest = writer.files.last_mut().unwrap();
        *newest = (newest.0.next(), rest);
        let folder = tempfile::tempdir().unwrap();
        let survey = opened(folder.path(), &writer).survey().unwrap();
        // What says itself where it stands: the XID, unless it is the missing event, and what follows.
        let xid = all.iter().skip(missing);
        let xid = xid.clone().find(|e| e.type_code == EventType::XID).unwrap();
        let resumes = xid.start.clone().max(event.end.clone());
        for range in &survey.ranges {
            assert!(
                range.to <= event.start || range.from >= resumes,
                "{missing}: {range}"
            );
        }
        assert_eq!(survey.ranges.len(), 2, "{missing}: {:?}", survey.ranges);
    }
}

/// MariaDB's receiver opens what the primary had compressed: such events have another length here than there.
#[test]
fn a_group_with_events_of_another_length_is_not_held_and_the_others_are() {
    let all = log().events;
    let is = |type_code| move |e: &&WrittenEvent| e.type_code == type_code;
    let groups: Vec<_> = all.iter().filter(is(EventType::MARIADB_GTID)).collect();
    let xids: Vec<_> = all.iter().filter(is(EventType::XID)).collect();
    for (opened_at, longer) in (9..14).flat_map(|at| [(at, 100_isize), (at, -20)]) {
        // The first rows of the second group.
        let rows = all
            .iter()
            .position(|event| event.start == groups[1].end)
            .unwrap()
            + 1;
        assert_eq!(all[rows].type_code, EventType::WRITE_ROWS);
        let writer = in_two_files_with(opened_at, Opened::Full, &|number, bytes| {
            if number == rows {
                let mut body = bytes[19..bytes.len() - 4].to_vec();
                body.resize(body.len().checked_add_signed(longer).unwrap(), 1);
                *bytes = event(EventType::WRITE_ROWS, 1, 0, 0, &body, Crc32);
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let logs = opened(folder.path(), &writer);
        let survey = logs.survey().unwrap();
        let case = format!("{opened_at} {longer}: {:?}", survey.ranges);
        assert_eq!(survey.whole_end.as_ref(), Some(log().position()), "{case}");
        assert_eq!(survey.ranges.len(), 2, "{case}");
        assert_eq!(survey.ranges[0].to, groups[1].start, "{case}");
        assert_eq!(survey.ranges[1].from, xids[1].start, "{case}");
    }
}
