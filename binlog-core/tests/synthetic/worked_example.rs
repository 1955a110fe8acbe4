//! The worked example of the reference, and what names the primary's file.

use binlog_core::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
use binlog_core::testing::{PrimaryLog, RelayWriter, query_body};
use binlog_core::{EventType, LogError, RelayLogs, ServerId, StreamRange};

use crate::{common, first_relay, pos, range, write_cut};

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
    let mut writer = RelayWriter::new(first_relay(), 2, NoChecksum);
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
