//! What a segment must hold, said by the layout in the documentation and the events that the primary wrote.

use std::path::{Path, PathBuf};

use binlog_core::checksum::ChecksumAlgorithm::{self, Crc32};
use binlog_core::segment::SegmentChain;
use binlog_core::testing::WrittenEvent;
use binlog_core::{BinlogFileName, BinlogPosition, CutPlan, EventType, Manifest, StreamRange};

use crate::primary::Primary;

/// The bytes of the segment `range` where `held` are the events that its provider has, and how many Rotates it made up.
pub(crate) fn expected(primary: &Primary, held: &[usize], range: &StreamRange) -> (Vec<u8>, usize) {
    let events: Vec<&WrittenEvent> = held
        .iter()
        .map(|&i| &primary.log.events[i])
        .filter(|e| range.from <= e.start && e.start < range.to)
        .collect();
    let description = |file: &BinlogFileName| {
        let is_it = |e: &&WrittenEvent| {
            e.type_code == EventType::FORMAT_DESCRIPTION && e.start.file == *file
        };
        primary.log.events.iter().find(is_it).unwrap()
    };
    let mut out = b"\xfebin".to_vec();
    if events
        .first()
        .is_none_or(|first| first.start != range.from || range.from.offset > 4)
    {
        let mut head = description(&range.from.file).bytes.clone();
        if range.from.offset > 4 {
            // created, behind the header, the version of the format and that of the server
            head[19 + 2 + 50..][..4].fill(0);
        }
        out.extend_from_slice(&not_in_use(head));
    }
    let (mut file, mut rotated, mut made_up) = (range.from.file.clone(), false, 0);
    let mut lead_to =
        |out: &mut Vec<u8>, file: &mut BinlogFileName, rotated: bool, to: &BinlogFileName| {
            if file != to && !rotated {
                out.extend_from_slice(&rotate(to, description(file).checksum));
                made_up += 1;
            }
            *file = to.clone();
        };
    for event in events {
        lead_to(&mut out, &mut file, rotated, &event.start.file);
        let bytes = event.bytes.clone();
        out.extend_from_slice(&match event.type_code {
            EventType::FORMAT_DESCRIPTION => not_in_use(bytes),
            _ => bytes,
        });
        rotated = event.type_code == EventType::ROTATE;
    }
    lead_to(&mut out, &mut file, rotated, &range.to.file);
    (out, made_up)
}

/// A format description without the in-use flag, and with the checksum of what it holds now.
fn not_in_use(mut event: Vec<u8>) -> Vec<u8> {
    event[17] &= !1;
    let content = event.len() - 4;
    let sum = crc(&event[..content]);
    event[content..].copy_from_slice(&sum.to_le_bytes());
    event
}

/// CRC-32 as in zlib, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

fn rotate(to: &BinlogFileName, checksum: ChecksumAlgorithm) -> Vec<u8> {
    let sums = if checksum == Crc32 { 4 } else { 0 };
    let size = u32::try_from(19 + 8 + to.as_str().len() + sums).unwrap();
    let mut event = vec![0; 4];
    event.push(4);
    event.extend_from_slice(&1_u32.to_le_bytes());
    event.extend_from_slice(&size.to_le_bytes());
    event.extend_from_slice(&[0, 0, 0, 0, 0x20, 0]);
    event.extend_from_slice(&4_u64.to_le_bytes());
    event.extend_from_slice(to.as_str().as_bytes());
    if sums > 0 {
        let sum = crc(&event);
        event.extend_from_slice(&sum.to_le_bytes());
    }
    event
}

/// A segment without what differs between providers: the log_pos of the description at its head, which is 0 where a
/// receiver resumed inside the file.
pub(crate) fn comparable(mut segment: Vec<u8>) -> Vec<u8> {
    segment[4 + 13..][..4].fill(0);
    let size = u32::from_le_bytes(segment[4 + 9..][..4].try_into().unwrap());
    let end = 4 + usize::try_from(size).unwrap();
    segment[end - 4..end].fill(0);
    segment
}

/// Writes a plan; `None` where there is nothing to cut.
pub(crate) fn write(plan: CutPlan, output: &Path) -> Option<Manifest> {
    match plan {
        CutPlan::Cut(cut) => Some(cut.write(output, "test", &mut |_| ()).unwrap()),
        CutPlan::Nothing(_) => None,
    }
}

/// The segment of a plan is what it must be, in bytes and by its manifest.
pub(crate) fn check(
    primary: &Primary,
    held: &[usize],
    range: &StreamRange,
    plan: CutPlan,
    output: &Path,
) -> Manifest {
    let manifest = write(plan, output).unwrap_or_else(|| panic!("nothing to cut in {range}"));
    let (wanted, made_up) = expected(primary, held, range);
    let found = std::fs::read(output).unwrap();
    assert!(
        comparable(found.clone()) == comparable(wanted.clone()),
        "{range}: the segment differs at {:?} of {} (wanted {})",
        found.iter().zip(&wanted).position(|(a, b)| a != b),
        found.len(),
        wanted.len()
    );
    assert_eq!(manifest.range, *range);
    assert_eq!(manifest.made_up_rotates.len(), made_up, "{range}");
    let inside = |i: &&usize| {
        let event = &primary.log.events[**i];
        range.from <= event.start && event.start < range.to
    };
    assert_eq!(manifest.events, held.iter().filter(inside).count() as u64);
    manifest
}

/// Joins segments into one; returns its bytes.
pub(crate) fn join(files: &[PathBuf], output: &Path) -> Vec<u8> {
    let chain = SegmentChain::open(files).unwrap();
    write(chain.plan_join().unwrap(), output).unwrap();
    std::fs::read(output).unwrap()
}

pub(crate) fn range(from: &BinlogPosition, to: &BinlogPosition) -> StreamRange {
    StreamRange::new(from.clone(), to.clone())
}
