//! The reader against the naive walk: the same events, the same end, from the start and from any event.

use binlog_core::LogError;
use binlog_core::reader::{EventReader, FileEnd, Step};
use binlog_core::segment::{FormatDescriptionPatch, patch_format_description};
use binlog_core::{EventType, event::FormatDescription};

use super::Scratch;
use super::container::Input;
use super::naive::{self, NaiveEnd, NaiveEvent};

/// The target.
pub fn check(input: &Input<'_>, scratch: &Scratch) {
    for file in input.logs(1, false) {
        let path = scratch.write("walk", &file);
        compare(&path, &file);
    }
}

/// Compares the reader with the model.
pub fn compare(path: &std::path::Path, file: &[u8]) {
    let (events, end) = naive::walk(file);
    assert!(end.offset() <= file.len());
    let reader = match EventReader::open(path) {
        Ok(reader) => reader,
        Err(LogError::NotABinlog { .. }) => return assert_eq!(end, NaiveEnd::Foreign),
        Err(LogError::Encrypted { offset: 0, .. }) => {
            return assert_eq!(end, NaiveEnd::Encrypted(0));
        }
        Err(e) => panic!("{e}"),
    };
    assert_eq!(reader.size(), file.len() as u64);
    follow(reader, &events, end);
    // From an event in the middle, of which the setting is known.
    let middle = events.len() / 2;
    if let (Some(event), Some(before)) =
        (events.get(middle), middle.checked_sub(1).map(|i| events[i]))
    {
        let mut reader = EventReader::open(path).unwrap();
        reader.seek(event.offset as u64, before.setting);
        follow(reader, &events[middle..], end);
    }
    for event in &events {
        if event.header.type_code == EventType::FORMAT_DESCRIPTION {
            patched(event.bytes);
        }
    }
}

fn follow(mut reader: EventReader, events: &[NaiveEvent<'_>], end: NaiveEnd) {
    for (expected, header) in events.iter().zip(naive::placed(events)) {
        match reader.step() {
            Ok(Step::Event(event)) => {
                assert_eq!(event.offset, expected.offset as u64);
                assert_eq!(event.header, header);
                assert!(event.bytes == expected.bytes, "bytes at {}", event.offset);
                assert_eq!(event.checksum, expected.checksum);
                assert_eq!(event.end(), expected.end() as u64);
                assert!(event.is_whole() && event.body().len() < event.bytes.len());
            }
            other => panic!("{other:?} at {}", expected.offset),
        }
        assert_eq!(reader.offset(), expected.end() as u64);
    }
    for _ in 0..2 {
        let found = match reader.step() {
            Ok(Step::End(FileEnd::Boundary)) => NaiveEnd::Boundary(end.offset()),
            Ok(Step::End(FileEnd::Torn { offset, .. })) => NaiveEnd::Torn(offset as usize),
            Ok(Step::End(FileEnd::Corrupt { offset, .. })) => NaiveEnd::Corrupt(offset as usize),
            Err(LogError::Encrypted { offset, .. }) => NaiveEnd::Encrypted(offset as usize),
            other => panic!("{other:?} at the end {end:?}"),
        };
        assert_eq!(found, end);
    }
}

/// A format description as a segment holds it.
fn patched(raw: &[u8]) {
    for zero_created in [false, true] {
        for zero_log_pos in [false, true] {
            let patch = FormatDescriptionPatch {
                zero_created,
                zero_log_pos,
            };
            let patched = patch_format_description(raw, patch);
            assert_eq!(patched.len(), raw.len());
            let (before, after) = (
                FormatDescription::parse(raw).unwrap(),
                FormatDescription::parse(&patched).unwrap(),
            );
            assert_eq!(before.checksum, after.checksum);
            assert_eq!(before.server_version, after.server_version);
            let created = if zero_created { 0 } else { before.created };
            assert_eq!(after.created, created);
            // Read again it is a right event.
            let file = [&binlog_core::event::MAGIC[..], &patched[..]].concat();
            let (events, end) = naive::walk(&file);
            assert_eq!((events.len(), end), (1, NaiveEnd::Boundary(file.len())));
        }
    }
}
