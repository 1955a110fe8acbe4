//! A walk with a thread that reads ahead sees what a walk without one sees.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::*;
use crate::event::EventType;
use crate::testing::PrimaryLog;

/// Bytes of a block here: several events, and less than the largest one.
const BLOCK: usize = 512;

/// Events as (offset, header, bytes lent, setting), the end, and what was cut off.
type Seen = (
    Vec<(u64, EventHeader, Vec<u8>, ChecksumAlgorithm)>,
    Result<FileEnd, String>,
    Option<EventHeader>,
);

fn ahead_at_once(reader: &mut EventReader, block: usize) {
    reader.block = block;
    reader.filled = 0;
    reader.ahead = ReadAhead::From(0);
}

fn walk(path: &Path, block: Option<usize>) -> Seen {
    let mut reader = match EventReader::open(path) {
        Ok(reader) => reader,
        Err(e) => return (Vec::new(), Err(e.to_string()), None),
    };
    if let Some(block) = block {
        ahead_at_once(&mut reader, block);
    }
    let mut events = Vec::new();
    let end = loop {
        match reader.step() {
            Ok(Step::Event(event)) => events.push((
                event.offset,
                event.header,
                event.bytes.to_vec(),
                event.checksum,
            )),
            Ok(Step::End(end)) => break Ok(end),
            Err(e) => break Err(e.to_string()),
        }
    };
    (events, end, reader.cut_off().copied())
}

/// Events of many lengths, a format description in the middle and a change of the setting.
fn log() -> Vec<u8> {
    let file = "mysql-bin.000001".parse().unwrap();
    let mut log = PrimaryLog::new(file, 1, ChecksumAlgorithm::Crc32);
    for i in 0..40_u64 {
        log.transaction(i, 1 + i as usize % 3, (i as usize * 37) % 300);
        if i % 16 == 7 {
            // Longer than a block.
            log.event(EventType::WRITE_ROWS, &[0x5a; 3 * BLOCK]);
        }
    }
    let first = log.file(log.files().first().unwrap());
    log.rotate();
    for i in 0..30 {
        log.transaction(i, 1, 40);
    }
    let second = log.file(log.files().last().unwrap());
    log.rotate_with(ChecksumAlgorithm::None);
    for i in 0..30 {
        log.transaction(i, 1, 40);
    }
    let third = log.file(log.files().last().unwrap());
    [&first, &second[4..], &third[4..]].concat()
}

fn write(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("log.000001");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_thread_that_reads_ahead_does_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &log());
    let mut reader = EventReader::open(&path).unwrap();
    ahead_at_once(&mut reader, BLOCK);
    let mut ran = 0;
    while let Step::Event(_) = reader.step().unwrap() {
        ran += usize::from(matches!(reader.ahead, ReadAhead::Running(_)));
    }
    assert!(ran > 100, "{ran}");
}

#[test]
fn every_flipped_byte_ends_the_walk_as_without_a_thread() {
    let dir = tempfile::tempdir().unwrap();
    let whole = log();
    assert_eq!(
        walk(&write(dir.path(), &whole), None),
        walk(&write(dir.path(), &whole), Some(BLOCK))
    );
    for at in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x21;
        let path = write(dir.path(), &bytes);
        assert_eq!(walk(&path, None), walk(&path, Some(BLOCK)), "byte {at}");
    }
}

#[test]
fn every_prefix_ends_the_walk_as_without_a_thread() {
    let dir = tempfile::tempdir().unwrap();
    let whole = log();
    for len in (0..whole.len()).step_by(17) {
        let path = write(dir.path(), &whole[..len]);
        let expected = walk(&path, None);
        for block in [BLOCK, 200] {
            assert_eq!(expected, walk(&path, Some(block)), "prefix of {len}");
        }
    }
}

#[test]
fn an_event_over_a_mebibyte_and_what_follows_it_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = "mysql-bin.000001".parse().unwrap();
    let mut log = PrimaryLog::new(file, 1, ChecksumAlgorithm::Crc32);
    for i in 0..3000 {
        log.transaction(i, 1, 900);
    }
    log.event(EventType::WRITE_ROWS, &vec![7; INLINE_MAX + 5]);
    for i in 0..3000 {
        log.transaction(i, 1, 900);
    }
    let bytes = log.file(log.files().first().unwrap());
    for damage in [None, Some(bytes.len() / 2), Some(bytes.len() - 3)] {
        let mut bytes = bytes.clone();
        if let Some(at) = damage {
            bytes[at] ^= 1;
        }
        let path = write(dir.path(), &bytes);
        assert_eq!(walk(&path, None), walk(&path, Some(BUFFER)));
        let mut reader = EventReader::open(&path).unwrap();
        reader.read_ahead();
        let mut events = 0;
        while let Step::Event(_) = reader.step().unwrap() {
            events += 1;
        }
        assert_eq!(events, walk(&path, None).0.len());
    }
}
