//! A jump that answers says what the walk says, for every target; and where nothing is odd it does answer.

#![allow(clippy::unwrap_used, clippy::panic)]

mod random;

use std::path::Path;

use super::*;
use crate::checksum::ChecksumAlgorithm;
use crate::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
use crate::position::BinlogFileName;
use crate::relay_log::RelayLogs;
use crate::testing::{PrimaryLog, RelayWriter};

const OWNER: ServerId = ServerId(9);

fn pos(text: &str) -> BinlogPosition {
    text.parse().unwrap()
}

fn file(text: &str) -> BinlogFileName {
    text.parse().unwrap()
}

fn writer(checksum: ChecksumAlgorithm) -> RelayWriter {
    RelayWriter::new("relay.000001".parse().unwrap(), OWNER.0, checksum)
}

/// Every start and end of an event of the primary, and places inside.
fn targets(log: &PrimaryLog) -> Vec<BinlogPosition> {
    let mut all: Vec<_> = log
        .events
        .iter()
        .flat_map(|event| {
            let (from, to) = (event.start.offset, event.end.offset);
            [
                from,
                from + 1,
                from + 19,
                (from + to) / 2,
                to - 1,
                to,
                to + 7,
            ]
            .map(|offset| BinlogPosition::new(event.start.file.clone(), offset))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Targets that are held, and those among them that a jump found, or missed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    held: usize,
    jumped: usize,
    missed: Vec<(String, Located)>,
    /// Ends, and targets inside events: told by a jump, and all there are.
    ends: (usize, usize),
    inside: (usize, usize),
}

impl Found {
    fn add(&mut self, other: &Self) {
        self.held += other.held;
        self.jumped += other.jumped;
        for (sum, more) in [
            (&mut self.ends, other.ends),
            (&mut self.inside, other.inside),
        ] {
            *sum = (sum.0 + more.0, sum.1 + more.1);
        }
    }
}

fn compare(
    files: &[(RelayFileName, PathBuf)],
    latest: Option<&BinlogPosition>,
    targets: &[BinlogPosition],
) -> Found {
    let walked = RelayLogs::open(files.to_vec(), OWNER, latest.cloned()).unwrap();
    walked.survey().unwrap();
    let mut found = Found::default();
    for target in targets {
        let expected = walked.locate(target);
        let jump = Jump {
            files: walked.files(),
            owner: OWNER,
            latest,
            target,
        };
        found.held += usize::from(expected.is_ok());
        let said = jump.locate();
        let sums = match &expected {
            Ok(located) if located.at_end => Some(&mut found.ends),
            Err(LogError::NotABoundary { .. }) => Some(&mut found.inside),
            _ => None,
        };
        if let Some(sums) = sums {
            *sums = (sums.0 + usize::from(!matches!(said, Ok(None))), sums.1 + 1);
        }
        match said {
            Ok(Some(located)) => {
                assert_eq!(
                    Some(&located),
                    expected.as_ref().ok(),
                    "{target} {expected:?}"
                );
                found.jumped += 1;
            }
            Ok(None) => {
                if let Ok(expected) = expected {
                    found.missed.push((target.to_string(), expected));
                }
            }
            Err(e) => {
                let expected = expected.map_err(|e| e.to_string());
                assert_eq!(Err(e.to_string()), expected, "{target}");
            }
        }
    }
    found
}

fn write(writer: &RelayWriter, dir: &Path) -> Vec<(RelayFileName, PathBuf)> {
    writer.write_to(dir).unwrap()
}

/// One primary file of 60 transactions received in one connection, a new relay log every `each` events.
fn received(checksum: ChecksumAlgorithm, each: usize, row: usize) -> (PrimaryLog, RelayWriter) {
    let mut log = PrimaryLog::new(file("b.000001"), 1, checksum);
    for i in 0..60 {
        log.transaction(i, 2, row);
    }
    let mut relay = writer(checksum);
    relay.connect(&log, &pos("b.000001:4"));
    for (i, event) in log.events.iter().enumerate() {
        if i > 0 && i % each == 0 {
            relay.rotate();
        }
        relay.receive(&log, event);
    }
    (log, relay)
}

#[test]
fn every_boundary_of_plain_relay_logs_is_jumped_to() {
    for checksum in [Crc32, NoChecksum] {
        for (each, row) in [(40, 30), (97, 3000), (1000, 70_000)] {
            let dir = tempfile::tempdir().unwrap();
            let (log, relay) = received(checksum, each, row);
            let files = write(&relay, dir.path());
            let found = compare(&files, None, &targets(&log));
            assert!(
                found.missed.is_empty(),
                "{checksum:?} {each} {row} {found:?}"
            );
            assert!(found.held > log.events.len(), "{found:?}");
        }
    }
}

#[test]
fn the_oldest_kept_logs_are_named_by_what_the_receiver_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, relay) = received(Crc32, 40, 200);
    let mut files = write(&relay, dir.path());
    files.drain(..2);
    let found = compare(&files, Some(log.position()), &targets(&log));
    assert!(found.held > 200, "{found:?}");
    assert!(found.missed.is_empty(), "{found:?}");
    // Without that, nothing names them.
    assert_eq!(compare(&files, None, &targets(&log)).jumped, 0);
}

#[test]
fn positions_beyond_four_gibibytes_are_jumped_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PrimaryLog::new(file("b.000001"), 1, Crc32);
    log.jump_to((1 << 32) - 5000);
    let from = log.position().clone();
    for i in 0..60 {
        log.transaction(i, 2, 100);
    }
    assert!(log.position().offset > 1 << 32);
    let mut relay = writer(Crc32);
    relay.connect(&log, &from);
    for (i, event) in log.events.iter().enumerate().skip(1) {
        if i % 50 == 0 {
            relay.rotate();
        }
        relay.receive(&log, event);
    }
    let found = compare(&write(&relay, dir.path()), None, &targets(&log));
    assert!(found.held >= log.events.len(), "{found:?}");
    assert!(found.missed.is_empty(), "{found:?}");
}

#[test]
fn a_connection_that_starts_again_further_back_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut relay) = received(Crc32, 90, 60);
    let again = log.events.len() / 2;
    relay.connect(&log, &log.events[again].start.clone());
    for event in &log.events[again..] {
        relay.receive(&log, event);
    }
    let found = compare(&write(&relay, dir.path()), None, &targets(&log));
    assert!(found.missed.is_empty(), "{found:?}");
    assert!(found.held > log.events.len(), "{found:?}");
}

#[test]
fn where_offsets_differ_by_no_constant_only_one_file_is_walked() {
    let dir = tempfile::tempdir().unwrap();
    let version = "10.11.6-MariaDB-log";
    let mut log = PrimaryLog::with_version(file("b.000001"), 1, Crc32, version);
    for i in 1..60 {
        log.mariadb_gtid(0, i, 0)
            .event(
                EventType::MARIADB_ANNOTATE_ROWS,
                b"insert into t values (1)",
            )
            .event(
                EventType::TABLE_MAP,
                &crate::testing::table_map_body("d", "t"),
            )
            .event(EventType::WRITE_ROWS_V1, &[1; 80])
            .xid(i);
    }
    let mut relay = writer(Crc32);
    relay.connect(&log, &pos("b.000001:4"));
    let stored =
        |event: &&crate::testing::WrittenEvent| event.type_code != EventType::MARIADB_ANNOTATE_ROWS;
    for event in log.events.iter().filter(stored) {
        relay.receive(&log, event);
    }
    let files = write(&relay, dir.path());
    let found = compare(&files, None, &targets(&log));
    assert!(found.held > 4 * 59, "{found:?}");
    // Only the start of everything, which no event ends at, and the end are left to the walk of all files.
    let missed: Vec<_> = found.missed.iter().map(|(target, _)| target).collect();
    let end = log.position().to_string();
    assert_eq!(missed, ["b.000001:4", &end], "{found:?}");
}

#[test]
fn what_does_not_hold_at_the_landing_is_not_jumped_to() {
    let dir = tempfile::tempdir().unwrap();
    let (log, relay) = received(Crc32, 1000, 60);
    let files = write(&relay, dir.path());
    let path = &files[1].1;
    let whole = std::fs::read(path).unwrap();
    let target = &log.events[150].start;
    let jump = |target: &BinlogPosition| {
        Jump {
            files: &files,
            owner: OWNER,
            latest: None,
            target,
        }
        .locate()
    };
    let landing = usize::try_from(jump(target).unwrap().unwrap().position.offset).unwrap();
    for at in landing - 60..landing + 300 {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(path, &bytes).unwrap();
        assert!(
            matches!(jump(target), Ok(None)),
            "{at} of {landing}: {:?}",
            jump(target)
        );
    }
}

/// What a jump says of the end of `log`, after it was compared with the walk.
fn end_of(files: &[(RelayFileName, PathBuf)], log: &PrimaryLog) -> Option<Located> {
    compare(files, None, &targets(log));
    let jump = Jump {
        files,
        owner: OWNER,
        latest: None,
        target: log.position(),
    };
    jump.locate().unwrap()
}

#[test]
fn the_end_is_told_however_the_newest_files_look() {
    for checksum in [Crc32, NoChecksum] {
        let (log, relay) = received(checksum, 90, 60);
        let end = log.position().clone();
        type Change = fn(&mut RelayWriter, &PrimaryLog, &BinlogPosition);
        let changes: [Change; 5] = [
            |_, _, _| {},
            // Restarts of the replica, and connections that brought nothing.
            |relay, _, _| relay.rotate(),
            |relay, log, end| relay.connect(log, end),
            |relay, log, end| {
                relay.rotate();
                relay.connect(log, end);
                relay.rotate();
            },
            // The next event was on its way.
            |relay, log, _| {
                let mut next = log.clone();
                next.query("BEGIN");
                relay.append(&next.events.last().unwrap().bytes[..25]);
            },
        ];
        for (i, change) in changes.iter().enumerate() {
            let (dir, mut relay) = (tempfile::tempdir().unwrap(), relay.clone());
            let last = relay.files.last().unwrap();
            let place = RelayPosition::new(last.0.clone(), last.1.len() as u64);
            change(&mut relay, &log, &end);
            let told = end_of(&write(&relay, dir.path()), &log);
            let expected = Located {
                position: place,
                at_end: true,
            };
            assert_eq!(told, Some(expected), "{checksum:?} {i}");
        }
    }
}

#[test]
fn no_end_is_told_where_an_older_file_leads_further() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut relay) = received(Crc32, 90, 60);
    let (end, again) = (log.events.len(), log.events.len() / 2);
    log.transaction(60, 1, 60).rotate();
    let rotate = log.events.len() - 2;
    relay.connect(&log, &log.events[rotate].start.clone());
    for event in &log.events[rotate..] {
        relay.receive(&log, event);
    }
    // A connection further back, which ends before the Rotate.
    relay.connect(&log, &log.events[again].start.clone());
    for event in &log.events[again..end] {
        relay.receive(&log, event);
    }
    let files = write(&relay, dir.path());
    compare(&files, None, &targets(&log));
    let target = &log.events[end - 1].end;
    let walked = RelayLogs::open(files.clone(), OWNER, None).unwrap();
    walked.survey().unwrap();
    // The Rotate and what is behind it are held further on.
    assert!(!walked.locate(target).unwrap().at_end);
    let jump = Jump {
        files: &files,
        owner: OWNER,
        latest: None,
        target,
    };
    assert!(jump.locate().unwrap().is_none());
}

#[test]
fn a_search_for_the_end_says_what_it_says_after_a_walk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, relay) = received(Crc32, 90, 60);
    let files = write(&relay, dir.path());
    let fresh = || RelayLogs::open(files.clone(), OWNER, None).unwrap();
    let walked = fresh();
    walked.survey().unwrap();
    for target in targets(&log) {
        let said = |logs: &RelayLogs| logs.first_event(&target).map_err(|e| e.to_string());
        assert_eq!(said(&fresh()), said(&walked), "{target}");
    }
}
