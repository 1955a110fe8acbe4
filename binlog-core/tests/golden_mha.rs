//! Real logs of MySQL 5.6.24 and what MHA cut from them: our segments hold the same events.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::path::{Path, PathBuf};

use binlog_core::reader::{EventReader, Step};
use binlog_core::segment::{EventBytes, SegmentChain};
use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, EventType, LogEnd, LogError, Manifest, MasterInfo,
    NothingReason, RelayFileName, RelayLogInfo, RelayLogs, ServerId, StreamRange,
};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mha-5.6-small")
}

fn at(offset: u64) -> BinlogPosition {
    BinlogPosition::new("mysql-bin.000001".parse().unwrap(), offset)
}

fn relay(host: &str, owner: u32, latest: u64) -> RelayLogs {
    let dir = golden().join("input").join(host);
    let files = ["relay-bin.000001", "relay-bin.000002"]
        .map(|name| (name.parse::<RelayFileName>().unwrap(), dir.join(name)))
        .to_vec();
    RelayLogs::open(files, ServerId(owner), Some(at(latest))).unwrap()
}

/// All events of a file: offset, type, bytes.
fn events(path: &Path) -> Vec<(u64, EventType, Vec<u8>)> {
    let mut reader = EventReader::open(path).unwrap();
    let mut out = Vec::new();
    while let Step::Event(event) = reader.step().unwrap() {
        out.push((event.offset, event.header.type_code, event.bytes.to_vec()));
    }
    out
}

fn is_data(type_code: EventType) -> bool {
    !matches!(type_code, EventType::FORMAT_DESCRIPTION | EventType::ROTATE)
}

fn data(path: &Path) -> Vec<Vec<u8>> {
    events(path)
        .into_iter()
        .filter(|e| is_data(e.1))
        .map(|e| e.2)
        .collect()
}

fn cut(plan: CutPlan, output: &Path) -> Manifest {
    let CutPlan::Cut(cut) = plan else {
        panic!("nothing to cut: {plan:?}")
    };
    cut.write(output, "test", &mut |_| ()).unwrap()
}

#[test]
fn the_primary_s_log_is_surveyed() {
    let logs = BinaryLogs::open(&golden().join("input/master/mysql-bin")).unwrap();
    let survey = logs.survey(None).unwrap();
    assert_eq!(survey.ranges, [StreamRange::new(at(4), at(1702))]);
    assert_eq!(survey.whole_end, Some(at(1702)));
    assert_eq!(survey.data_end, Some(at(1702)));
    assert_eq!(
        survey.end,
        LogEnd::InUse {
            file: "mysql-bin.000001".into(),
            offset: 1702
        }
    );
    assert!(survey.last_transaction.unwrap().xid.is_some());
    assert_eq!(survey.walked_bytes, 1702);
}

#[test]
fn a_replica_s_relay_logs_are_surveyed() {
    for (host, owner, latest) in [("h2", 2, 822), ("h3", 3, 1262)] {
        let survey = relay(host, owner, latest).survey().unwrap();
        assert_eq!(
            survey.ranges,
            [StreamRange::new(at(4), at(latest))],
            "{host}"
        );
        assert_eq!(survey.whole_end, Some(at(latest)));
        assert!(survey.holes.is_empty());
    }
}

#[test]
fn every_event_end_is_located_and_nothing_else() {
    let logs = relay("h3", 3, 1262);
    let path = golden().join("input/h3/relay-bin.000002");
    let mut ends = vec![];
    for (offset, type_code, bytes) in events(&path) {
        let log_pos = u64::from(u32::from_le_bytes(bytes[13..17].try_into().unwrap()));
        let own = bytes[17] & 0x40 != 0;
        if !own && log_pos > 0 && type_code != EventType::ROTATE {
            ends.push((log_pos, offset + bytes.len() as u64));
        }
    }
    assert!(ends.contains(&(822, 985)), "the offset MHA found");
    for target in 4..=1262 {
        let located = logs.locate(&at(target));
        match ends.iter().find(|(log_pos, _)| *log_pos == target) {
            Some((_, offset)) => {
                let located = located.unwrap();
                assert_eq!(
                    located.position.to_string(),
                    format!("relay-bin.000002:{offset}")
                );
                assert_eq!(located.at_end, target == 1262);
            }
            None if target == 4 => assert_eq!(
                located.unwrap().position.to_string(),
                "relay-bin.000002:167"
            ),
            None => assert!(
                matches!(located, Err(LogError::NotABoundary { .. })),
                "{target}: {located:?}"
            ),
        }
    }
    assert!(matches!(
        logs.locate(&at(1263)),
        Err(LogError::NotHeld { .. })
    ));
}

#[test]
fn segments_hold_the_events_that_mha_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (diff, tail) = (dir.path().join("diff"), dir.path().join("tail"));
    let m = cut(
        relay("h3", 3, 1262)
            .plan_cut(&StreamRange::new(at(822), at(1262)))
            .unwrap(),
        &diff,
    );
    assert_eq!(
        (m.transactions, m.whole_end, m.dropped_bytes),
        (2, Some(at(1262)), 0)
    );
    assert_eq!(
        data(&diff),
        data(&golden().join("output/relay_from_read_to_latest.binlog"))
    );
    let logs = BinaryLogs::open(&golden().join("input/master/mysql-bin")).unwrap();
    let m = cut(logs.plan_cut(&at(1262), None).unwrap(), &tail);
    assert_eq!(m.range, StreamRange::new(at(1262), at(1702)));
    assert_eq!(
        data(&tail),
        data(&golden().join("output/saved_master_binlog.binlog"))
    );
    // The bytes MHA saved, but for `created` and the in-use flag of the format description.
    let (ours, theirs) = (
        std::fs::read(&tail).unwrap(),
        std::fs::read(golden().join("output/saved_master_binlog.binlog")).unwrap(),
    );
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(ours[124..], theirs[124..]);

    let chain = SegmentChain::open(&[diff, tail]).unwrap();
    assert_eq!(chain.range(), StreamRange::new(at(822), at(1702)));
    assert_eq!(chain.whole_end(), at(1702));
    let total = golden().join("output/total_binlog_for_127.0.0.1_3306.total-binlog.binlog");
    let streamed: Vec<_> = chain
        .events_from(&at(822))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let bytes = |e: &binlog_core::StreamedEvent| match &e.bytes {
        EventBytes::Inline(bytes) => bytes.clone(),
        EventBytes::Blocks(_) => panic!("no large event here"),
    };
    let all: Vec<_> = streamed
        .iter()
        .filter(|e| is_data(e.header.type_code))
        .map(bytes)
        .collect();
    assert_eq!(all, data(&total));
    // First the primary's format description with its original `created`, as the primary wrote it.
    let first = &streamed[0];
    assert_eq!(first.header.type_code, EventType::FORMAT_DESCRIPTION);
    assert_eq!(
        (
            &first.position_before,
            &first.position_after,
            first.takes_place
        ),
        (&at(822), &at(822), false)
    );
    assert!(
        streamed
            .windows(2)
            .all(|pair| pair[0].position_after == pair[1].position_before)
    );
    // From each boundary on, and only from there.
    for from in 822..=1702 {
        let boundary = streamed.iter().any(|e| e.position_after.offset == from);
        assert_eq!(chain.events_from(&at(from)).is_ok(), boundary, "{from}");
    }
    assert_eq!(chain.events_from(&at(1702)).unwrap().count(), 1);
}

#[test]
fn a_whole_file_is_cut_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("all");
    let logs = BinaryLogs::open(&golden().join("input/master/mysql-bin")).unwrap();
    cut(logs.plan_cut(&at(4), None).unwrap(), &output);
    let (ours, mut theirs) = (
        std::fs::read(&output).unwrap(),
        std::fs::read(golden().join("output/save_all.binlog")).unwrap(),
    );
    // Only the in-use flag differs: the primary was killed.
    assert_eq!(theirs[21], 1);
    theirs[21] = 0;
    assert_eq!(ours, theirs);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "no temporary file is left"
    );
}

#[test]
fn nothing_to_cut_says_why() {
    let logs = BinaryLogs::open(&golden().join("input/master/mysql-bin")).unwrap();
    let reason = |from: BinlogPosition| match logs.plan_cut(&from, None).unwrap() {
        CutPlan::Nothing(nothing) => nothing.reason,
        CutPlan::Cut(cut) => panic!("{}", cut.range()),
    };
    assert_eq!(reason(at(1702)), NothingReason::AtEnd);
    assert_eq!(reason(at(1703)), NothingReason::BeyondEnd);
    assert_eq!(
        reason("mysql-bin.000002:4".parse().unwrap()),
        NothingReason::BeyondEnd
    );
    assert!(matches!(
        logs.plan_cut(&at(1701), None),
        Err(LogError::NotABoundary { .. })
    ));
    let replica = relay("h3", 3, 1262);
    assert!(matches!(
        replica
            .plan_cut(&StreamRange::new(at(1262), at(1262)))
            .unwrap(),
        CutPlan::Nothing(_)
    ));
    assert!(matches!(
        replica.plan_cut(&StreamRange::new(at(822), at(1702))),
        Err(LogError::NotHeld { .. })
    ));
    assert!(matches!(
        replica.plan_cut(&StreamRange::new(at(1262), at(822))),
        Err(LogError::BadRange { .. })
    ));
}

#[test]
fn providers_agree_on_the_last_event_before_a_place() {
    let logs = BinaryLogs::open(&golden().join("input/master/mysql-bin")).unwrap();
    let (h2, h3) = (relay("h2", 2, 822), relay("h3", 3, 1262));
    assert_eq!(
        logs.event_before(&at(1262)).unwrap(),
        h3.event_before(&at(1262)).unwrap()
    );
    assert_eq!(
        h2.event_before(&at(822)).unwrap(),
        h3.event_before(&at(822)).unwrap()
    );
    assert_eq!(logs.event_before(&at(822)).unwrap().unwrap().end, at(822));
    assert_eq!(logs.event_before(&at(120)).unwrap(), None);
    assert_ne!(
        logs.event_before(&at(1262)).unwrap(),
        logs.event_before(&at(822)).unwrap()
    );
}

#[test]
fn a_segment_cut_inside_a_transaction_joins_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let logs = relay("h3", 3, 1262);
    let path = golden().join("input/h3/relay-bin.000002");
    let boundaries: Vec<u64> = events(&path)
        .iter()
        .map(|(_, _, bytes)| u64::from(u32::from_le_bytes(bytes[13..17].try_into().unwrap())))
        .filter(|end| (822..=1262).contains(end))
        .collect();
    let whole = dir.path().join("whole");
    cut(
        logs.plan_cut(&StreamRange::new(at(822), at(1262))).unwrap(),
        &whole,
    );
    for middle in boundaries
        .into_iter()
        .filter(|end| (823..1262).contains(end))
    {
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        cut(
            logs.plan_cut(&StreamRange::new(at(822), at(middle)))
                .unwrap(),
            &a,
        );
        cut(
            logs.plan_cut(&StreamRange::new(at(middle), at(1262)))
                .unwrap(),
            &b,
        );
        let chain = SegmentChain::open(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(chain.whole_end(), at(1262), "{middle}");
        let bytes: Vec<_> = chain
            .events_from(&at(822))
            .unwrap()
            .map(|event| match event.unwrap().bytes {
                EventBytes::Inline(bytes) => bytes,
                EventBytes::Blocks(_) => panic!("no large event here"),
            })
            .skip(1)
            .collect();
        assert_eq!(bytes, data(&whole), "{middle}");
        assert!(matches!(
            SegmentChain::open(&[a.clone(), whole.clone()]),
            Err(LogError::Gap { .. })
        ));
        assert!(matches!(
            SegmentChain::open(&[b, a]),
            Err(LogError::Gap { .. })
        ));
    }
}

#[test]
fn a_changed_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("segment");
    cut(
        relay("h3", 3, 1262)
            .plan_cut(&StreamRange::new(at(822), at(1262)))
            .unwrap(),
        &output,
    );
    let good = std::fs::read(&output).unwrap();
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0x10;
        std::fs::write(&output, &bad).unwrap();
        let result = SegmentChain::open(std::slice::from_ref(&output));
        assert!(
            matches!(result, Err(LogError::DigestMismatch { .. })),
            "{i}"
        );
    }
    std::fs::write(&output, &good).unwrap();
    std::fs::remove_file(Manifest::path_for(&output)).unwrap();
    assert!(SegmentChain::open(&[output]).is_err());
}

#[test]
fn info_files_are_read() {
    let read = |path: &str| {
        (
            std::fs::read_to_string(golden().join(path)).unwrap(),
            golden().join(path),
        )
    };
    let (text, path) = read("input/h3/relay-log.info");
    let info = RelayLogInfo::parse(&text, &path).unwrap();
    assert_eq!(info.relay.to_string(), "relay-bin.000002:1425");
    assert_eq!(info.executed, Some(at(1262)));
    let (text, path) = read("input/h3/master.info");
    let info = MasterInfo::parse(&text, &path).unwrap();
    assert_eq!(info.read, Some(at(1262)));
    assert_eq!(
        (
            info.host.as_str(),
            info.port,
            info.user.as_str(),
            info.password.as_str()
        ),
        ("127.0.0.11", 15601, "repl", "replpass")
    );
    assert_eq!(
        (
            info.retry_count,
            info.auto_position,
            info.heartbeat.as_str()
        ),
        (Some(86400), false, "30.000")
    );
    assert!(!format!("{info:?}").contains("replpass"));
}

/// Every prefix of a log: the offset of the torn event is exact, no event is invented, nothing panics.
#[test]
fn every_prefix_ends_where_its_last_whole_event_ends() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(golden().join("input/master/mysql-bin.000001")).unwrap();
    let all = events(&golden().join("input/master/mysql-bin.000001"));
    let basename = dir.path().join("mysql-bin");
    let path = dir.path().join("mysql-bin.000001");
    for len in 0..=good.len() {
        std::fs::write(&path, &good[..len]).unwrap();
        let whole: Vec<_> = all
            .iter()
            .filter(|(offset, _, bytes)| offset + bytes.len() as u64 <= len as u64)
            .cloned()
            .collect();
        assert_eq!(events(&path), whole, "{len}");
        let boundary = whole
            .last()
            .map_or(if len < 4 { 0 } else { 4 }, |(offset, _, bytes)| {
                offset + bytes.len() as u64
            });
        let survey = BinaryLogs::open(&basename).unwrap().survey(None).unwrap();
        assert_eq!(survey.end.offset(), boundary, "{len}");
        assert_eq!(
            matches!(survey.end, LogEnd::Torn { .. }),
            boundary != len as u64 || len < 4,
            "{len}: {}",
            survey.end
        );
        let whole_end = survey.whole_end.unwrap().offset;
        assert!(whole_end <= boundary.max(4), "{len}");
        assert!(
            [4, 211, 311, 460, 602, 822, 1042, 1262, 1482, 1702].contains(&whole_end),
            "{len}: {whole_end}"
        );
    }
}

/// Every flipped byte of a log with checksums is noticed where it is.
#[test]
fn every_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden().join("input/master/mysql-bin.000001");
    let good = std::fs::read(&source).unwrap();
    let all = events(&source);
    let path = dir.path().join("mysql-bin.000001");
    for i in 4..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0x04;
        std::fs::write(&path, &bad).unwrap();
        let hit = all
            .iter()
            .rfind(|(offset, _, _)| *offset <= i as u64)
            .unwrap()
            .0;
        let survey = BinaryLogs::open(&dir.path().join("mysql-bin"))
            .unwrap()
            .survey(None)
            .unwrap();
        // Never torn: a damaged length must not pass for the end that a crash leaves, with whole transactions behind it.
        assert!(
            matches!(survey.end, LogEnd::Corrupt { .. }),
            "{i}: {}",
            survey.end
        );
        assert_eq!(survey.end.offset(), hit, "{i}");
    }
    // The in-use flag alone is changed by the server itself.
    let mut closed = good.clone();
    closed[21] = 0;
    std::fs::write(&path, &closed).unwrap();
    let survey = BinaryLogs::open(&dir.path().join("mysql-bin"))
        .unwrap()
        .survey(None)
        .unwrap();
    assert!(matches!(survey.end, LogEnd::Clean { .. }), "{}", survey.end);
    let wrong_magic = dir.path().join("mysql-bin.000001");
    std::fs::write(&wrong_magic, b"\xfdbin1234").unwrap();
    assert!(matches!(
        EventReader::open(&wrong_magic),
        Err(LogError::Encrypted { .. })
    ));
    std::fs::write(&wrong_magic, b"PK\x03\x04").unwrap();
    assert!(matches!(
        EventReader::open(&wrong_magic),
        Err(LogError::NotABinlog { .. })
    ));
}

/// A file that is cut off although a later one exists is damage: what stood there would be lost without a word.
#[test]
fn only_the_last_file_may_be_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(golden().join("input/master/mysql-bin.000001")).unwrap();
    std::fs::write(dir.path().join("mysql-bin.000001"), &good[..1500]).unwrap();
    let basename = dir.path().join("mysql-bin");
    let from: BinlogPosition = "mysql-bin.000001:822".parse().unwrap();
    let survey = |logs: &BinaryLogs| logs.survey(Some(&from)).unwrap().end;
    let end = survey(&BinaryLogs::open(&basename).unwrap());
    assert!(matches!(end, LogEnd::Torn { .. }), "{end}");
    std::fs::write(dir.path().join("mysql-bin.000002"), &good).unwrap();
    let end = survey(&BinaryLogs::open(&basename).unwrap());
    assert!(matches!(end, LogEnd::Corrupt { .. }), "{end}");
    assert_eq!((end.file(), end.offset()), ("mysql-bin.000001", 1482));
}

/// Every prefix and every flipped byte of a relay log: whatever is still served is what the primary wrote.
#[test]
fn no_damage_of_a_relay_log_serves_what_the_primary_did_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let primary = data(&golden().join("input/master/mysql-bin.000001"));
    let good = std::fs::read(golden().join("input/h3/relay-bin.000002")).unwrap();
    let path = dir.path().join("relay-bin.000002");
    let output = dir.path().join("segment");
    let prefixes = (0..good.len()).map(|len| good[..len].to_vec());
    let flips = (0..good.len()).map(|i| {
        let mut bad = good.clone();
        bad[i] ^= 0x20;
        bad
    });
    let mut served = 0;
    for (i, bytes) in prefixes.chain(flips).enumerate() {
        std::fs::write(&path, &bytes).unwrap();
        let name: RelayFileName = "relay-bin.000002".parse().unwrap();
        let Ok(logs) = RelayLogs::open(vec![(name, path.clone())], ServerId(3), None) else {
            continue;
        };
        let survey = logs.survey().unwrap();
        for range in survey
            .ranges
            .iter()
            .filter(|range| range.from.file == at(4).file)
        {
            let CutPlan::Cut(plan) = logs.plan_cut(range).unwrap() else {
                continue;
            };
            plan.write(&output, "test", &mut |_| ()).unwrap();
            let events = data(&output);
            assert!(primary.starts_with(&events), "{i}: {range}");
            served += usize::from(!events.is_empty());
        }
    }
    assert!(served > 1000, "{served}");
}
