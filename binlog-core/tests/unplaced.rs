//! MariaDB 11.4 and newer leave out where events inside a transaction end. What is held is the same as if they said it, in the
//! primary's log and in a replica's, and an event that is missing inside is still noticed.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::path::Path;

use binlog_core::checksum::ChecksumAlgorithm::Crc32;
use binlog_core::checksum::crc32;
use binlog_core::segment::SegmentChain;
use binlog_core::testing::{PrimaryLog, RelayWriter};
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
