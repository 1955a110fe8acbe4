//! Where files meet: settings, a Stop, a crash, the place between two files, the index; damage in an older file.

use binlog_core::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
use binlog_core::segment::SegmentChain;
use binlog_core::testing::{PrimaryLog, RelayWriter, WrittenEvent};
use binlog_core::{
    BinaryLogs, CutPlan, EventType, LogEnd, LogError, NothingReason, RelayLogs, ServerId,
    StreamRange,
};

use crate::{common, first_relay, pos, range, sample, write_cut};

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
fn an_innodb_based_log_is_named_and_not_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("b");
    for stranger in ["b-000000.ibd", "b-x.ibb", "b.ibb", "bb-000000.ibb"] {
        std::fs::write(dir.path().join(stranger), b"x").unwrap();
    }
    assert!(matches!(
        BinaryLogs::open(&base),
        Err(LogError::NoFiles { .. })
    ));
    let page = dir.path().join("b-000000.ibb");
    std::fs::write(&page, b"x").unwrap();
    let error = BinaryLogs::open(&base).unwrap_err();
    assert!(matches!(&error, LogError::InnoDb { path } if *path == page));
    assert!(error.to_string().contains("binlog_storage_engine=innodb"));
    // Files of events that are there are read.
    let log = sample(Crc32);
    let base = log.write_to(dir.path()).unwrap();
    assert!(BinaryLogs::open(&base).is_ok());
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
