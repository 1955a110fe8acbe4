//! Every prefix and every flipped byte of real logs of each server: no panic, bounded memory, the end at the exact offset,
//! and no change under a checksum that goes unnoticed. What the server itself changes is the only exception.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod targets;

use std::sync::Mutex;

use binlog_core::checksum::ChecksumAlgorithm::Crc32;
use binlog_core::segment::SegmentChain;
use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, LogEnd, LogError, Manifest, RelayLogs, ServerId,
};
use sha2::Digest as _;
use targets::naive::{self, NaiveEnd};
use targets::{MEMORY_MAX, Scratch, peak_of, seeds, walk};

/// A set, a small file of its primary with checksums, a bigger one, a relay log.
const LOGS: [(&str, u64, u64, u64); 4] = [
    ("mysql-5.6-rotations", 1, 4, 4),
    ("mysql-5.6-gtid", 1, 2, 2),
    ("mysql-9.7-gtid", 7, 1, 4),
    ("mariadb-10.11-rotations", 1, 4, 4),
];

/// Memory is counted for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn read(set: &str, path: &str) -> Vec<u8> {
    std::fs::read(seeds::golden().join(set).join(path)).unwrap()
}

fn primary(set: &str, number: u64) -> Vec<u8> {
    read(set, &format!("primary/mysql-bin.{number:06}"))
}

/// Event boundaries of a whole file, 4 first.
fn boundaries(file: &[u8]) -> Vec<usize> {
    let (events, end) = naive::walk(file);
    assert_eq!(end, NaiveEnd::Boundary(file.len()));
    assert!(events.len() > 5);
    assert!(events.iter().all(|event| event.checksum == Crc32));
    [4].into_iter()
        .chain(events.iter().map(naive::NaiveEvent::end))
        .collect()
}

/// Runs all cases one after the other within the bound of memory.
fn bounded(what: &str, work: impl FnOnce()) {
    let _guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let (peak, ()) = peak_of(work);
    assert!(peak < MEMORY_MAX, "{what}: {peak} bytes of memory");
}

/// How a binary log of this one file ends.
fn binary_end(dir: &Scratch, number: u64, bytes: &[u8]) -> LogEnd {
    let name = format!("mysql-bin.{number:06}");
    dir.write(&name, bytes);
    let logs = BinaryLogs::open(&dir.path("mysql-bin")).unwrap();
    let survey = logs.survey(None).unwrap();
    let end = BinlogPosition::new(name.parse().unwrap(), survey.end.offset().max(4));
    assert!(survey.whole_end.is_none_or(|whole| whole <= end));
    survey.end
}

#[test]
fn every_prefix_of_a_binary_log_is_torn_where_its_last_event_begins() {
    for (set, small, bigger, _) in LOGS {
        for number in [small, bigger] {
            let dir = Scratch::new();
            let good = primary(set, number);
            let boundaries = boundaries(&good);
            bounded(set, || {
                for len in 0..good.len() {
                    let prefix = &good[..len];
                    let end = binary_end(&dir, number, prefix);
                    let boundary = boundaries.iter().rev().find(|&&at| at <= len);
                    let expected = *boundary.unwrap_or(&0);
                    assert_eq!(end.offset(), expected as u64, "{set} {number} {len}");
                    let torn = matches!(end, LogEnd::Torn { .. });
                    assert_eq!(torn, expected != len || len < 4, "{set} {number} {len}");
                    walk::compare(&dir.path(&format!("mysql-bin.{number:06}")), prefix);
                }
            });
        }
    }
}

/// What a flip changes: bit 0 of the flags of a format description says that the file is in use; the server flips it.
fn is_in_use_flag(offset: usize, pattern: u8) -> bool {
    offset == 4 + 17 && pattern == 1
}

#[test]
fn every_flipped_bit_of_a_binary_log_is_found_in_its_event() {
    for (set, small, bigger, _) in LOGS {
        for number in [small, bigger] {
            let dir = Scratch::new();
            let good = primary(set, number);
            let boundaries = boundaries(&good);
            let patterns: Vec<u8> = if number == small {
                (0..8).map(|bit| 1 << bit).collect()
            } else {
                vec![0xff]
            };
            bounded(set, || {
                let mut bad = good.clone();
                for (offset, pattern) in
                    (4..good.len()).flat_map(|at| patterns.iter().map(move |&p| (at, p)))
                {
                    bad[offset] ^= pattern;
                    let end = binary_end(&dir, number, &bad);
                    if is_in_use_flag(offset, pattern) {
                        assert_eq!(end.offset(), good.len() as u64, "{set} {number}: {end}");
                    } else {
                        let hit = *boundaries.iter().rev().find(|&&at| at <= offset).unwrap();
                        assert!(
                            matches!(end, LogEnd::Corrupt { .. }) && end.offset() == hit as u64,
                            "{set} {number}: {offset} ^ {pattern:#x} in the event at {hit}: {end}"
                        );
                    }
                    bad[offset] ^= pattern;
                }
            });
        }
    }
}

/// A relay log tells nothing of where its file ends, so a length that grew beyond it looks like an event that was cut off.
#[test]
fn every_prefix_and_flipped_bit_of_a_relay_log_ends_it_at_that_event() {
    for (set, _, _, number) in LOGS {
        let dir = Scratch::new();
        let name = format!("relay-bin.{number:06}");
        let good = read(set, &format!("replica/{name}"));
        let boundaries = boundaries(&good);
        let survey = |bytes: &[u8]| {
            let files = vec![(name.parse().unwrap(), dir.write(&name, bytes))];
            let logs = RelayLogs::open(files, ServerId(2), None).unwrap();
            logs.survey().unwrap()
        };
        let whole = survey(&good);
        assert!(!whole.ranges.is_empty(), "{set}");
        bounded(set, || {
            for len in 1..good.len() {
                let survey = survey(&good[..len]);
                let expected = *boundaries.iter().rev().find(|&&at| at <= len).unwrap_or(&0);
                assert_eq!(survey.end.offset(), expected as u64, "{set} {len}");
                let torn = matches!(survey.end, LogEnd::Torn { .. });
                assert_eq!(torn, expected != len || len < 4, "{set} {len}");
                assert!(survey.data_end <= whole.data_end, "{set} {len}");
            }
            let mut bad = good.clone();
            for (offset, pattern) in
                (4..good.len()).flat_map(|at| (0..8).map(move |bit| (at, 1_u8 << bit)))
            {
                bad[offset] ^= pattern;
                let survey = survey(&bad);
                let hit = *boundaries.iter().rev().find(|&&at| at <= offset).unwrap();
                let in_use =
                    (hit == 4 || good[hit + 4] == 15) && offset == hit + 17 && pattern == 1;
                if in_use {
                    assert_eq!(survey.end.offset(), good.len() as u64, "{set}");
                } else {
                    let length =
                        (hit + 9..hit + 13).contains(&offset) && bad[offset] > good[offset];
                    let found = matches!(survey.end, LogEnd::Corrupt { .. })
                        || (length && matches!(survey.end, LogEnd::Torn { .. }));
                    assert!(
                        found && survey.end.offset() == hit as u64,
                        "{set}: {offset} ^ {pattern:#x} in the event at {hit}: {}",
                        survey.end
                    );
                    assert!(survey.data_end <= whole.data_end, "{set} {offset}");
                }
                bad[offset] ^= pattern;
            }
        });
    }
}

/// The digest finds every change of a segment. If someone puts the digest right as well, checksums and the manifest still
/// do, without exception: the in-use flag is never set in a segment.
#[test]
fn every_prefix_and_flipped_bit_of_a_segment_is_found() {
    for (set, number, _, _) in LOGS {
        let dir = Scratch::new();
        let logs = BinaryLogs::open(&seeds::golden().join(set).join("primary/mysql-bin")).unwrap();
        let file = format!("mysql-bin.{number:06}");
        let ends = boundaries(&primary(set, number));
        // Three events: two more would add nothing but time.
        let middle = ends[ends.len() - 4] as u64;
        let from = BinlogPosition::new(file.parse().unwrap(), middle);
        let to = BinlogPosition::new(file.parse().unwrap(), *ends.last().unwrap() as u64);
        let CutPlan::Cut(cut) = logs.plan_cut(&from, Some(&to)).unwrap() else {
            panic!("{set}: nothing to cut")
        };
        let path = dir.path("segment");
        let manifest = cut.write(&path, "test", &mut |_| ()).unwrap();
        let good = std::fs::read(&path).unwrap();
        let open = |bytes: &[u8], manifest: &Manifest| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::write(Manifest::path_for(&path), manifest.to_json()).unwrap();
            SegmentChain::open(&[path.to_path_buf()])
        };
        let repaired = |bytes: &[u8]| Manifest {
            size: bytes.len() as u64,
            sha256: hex::encode(sha2::Sha256::digest(bytes)),
            ..manifest.clone()
        };
        assert!(open(&good, &repaired(&good)).is_ok());
        bounded(set, || {
            for len in 0..good.len() {
                let prefix = &good[..len];
                let told = open(prefix, &manifest);
                assert!(
                    matches!(told, Err(LogError::DigestMismatch { .. })),
                    "{set} {len}"
                );
                assert!(open(prefix, &repaired(prefix)).is_err(), "{set} {len}");
            }
            let mut bad = good.clone();
            for offset in 0..good.len() {
                bad[offset] ^= 0x10;
                let told = open(&bad, &manifest);
                assert!(
                    matches!(told, Err(LogError::DigestMismatch { .. })),
                    "{set} {offset}"
                );
                bad[offset] ^= 0x10;
                for bit in 0..8 {
                    bad[offset] ^= 1 << bit;
                    let told = open(&bad, &repaired(&bad));
                    assert!(told.is_err(), "{set} {offset} bit {bit}");
                    bad[offset] ^= 1 << bit;
                }
            }
        });
    }
}

/// A length field may say anything: memory is taken for what is there.
#[test]
fn no_length_takes_memory() {
    let dir = Scratch::new();
    let good = primary("mysql-5.6-rotations", 1);
    for size in [1 << 20, 1 << 30, u32::MAX - 1, u32::MAX] {
        for at in boundaries(&good).into_iter().filter(|&at| at < good.len()) {
            let mut bad = good.clone();
            bad[at + 9..at + 13].copy_from_slice(&u32::to_le_bytes(size));
            bounded("length", || {
                let end = binary_end(&dir, 1, &bad);
                assert!(matches!(end, LogEnd::Corrupt { .. }), "{end}");
                assert_eq!(end.offset(), at as u64);
            });
        }
    }
}
