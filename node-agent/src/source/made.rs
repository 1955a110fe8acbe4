//! Events the local source makes itself: the artificial Rotate and the heartbeat.
//!
//! They take no place in the stream, and end with a checksum exactly when the events around them do; a replica
//! that expects one and finds none stops with error 1595 or worse.

use binlog_core::checksum::crc32;
use binlog_core::event::{FormatDescription, rotate};
use binlog_core::segment::FormatDescriptionPatch;
use binlog_core::{BinlogPosition, EventHeader, EventType, ServerId, patch_format_description};

/// Size of an event header in bytes.
const HEADER_LEN: usize = binlog_core::event::HEADER_LEN as usize;
/// Where a header has its end position.
const LOG_POS: std::ops::Range<usize> = 13..17;
/// `LOG_EVENT_ARTIFICIAL_F`.
const ARTIFICIAL: u16 = 0x20;

/// The artificial Rotate: tells a replica the file, and where in it, that what follows belongs to.
pub(super) fn artificial_rotate(
    server_id: ServerId,
    to: &BinlogPosition,
    checksum: bool,
) -> Vec<u8> {
    let body = rotate::body(to);
    event(EventType::ROTATE, server_id, 0, ARTIFICIAL, &body, checksum)
}

/// A heartbeat: the stream stands at `at`. `None` beyond 4 GiB, which the event cannot express and replicas take for an
/// error; they then reconnect after `slave_net_timeout`, which is harmless.
pub(super) fn heartbeat(
    server_id: ServerId,
    at: &BinlogPosition,
    checksum: bool,
) -> Option<Vec<u8>> {
    let log_pos = u32::try_from(at.offset).ok()?;
    let body = at.file.as_str().as_bytes();
    Some(event(
        EventType::HEARTBEAT,
        server_id,
        log_pos,
        0,
        body,
        checksum,
    ))
}

/// A primary's format description as a replica may see it: in-use flag cleared; and where the replica resumes inside a
/// file, without a `created` time (its source did not restart) and without an end position (it takes no place).
pub(super) fn format_description(original: &[u8], resumes: bool) -> Vec<u8> {
    let patch = FormatDescriptionPatch {
        zero_created: resumes,
        zero_log_pos: resumes,
    };
    patch_format_description(original, patch)
}

/// The first format description of a replica that asks by GTIDs: without a `created` time (its source did not restart), but
/// with the end position that it has at the head of its file. By that position a parallel applier tells that the
/// transaction it holds a part of comes again from its beginning, and rolls the part back (`exec_relay_log_event` of 5.7
/// and later looks for `log_pos != 0`).
pub(super) fn format_description_by_gtid(original: &[u8]) -> Vec<u8> {
    let patch = FormatDescriptionPatch {
        zero_created: true,
        zero_log_pos: true,
    };
    let mut bytes = patch_format_description(original, patch);
    let end = u32::try_from(bytes.len())
        .unwrap_or(u32::MAX)
        .saturating_add(4);
    if let Some(log_pos) = bytes.get_mut(LOG_POS) {
        log_pos.copy_from_slice(&end.to_le_bytes());
    }
    if FormatDescription::parse(&bytes).is_some_and(|found| found.has_checksum_field)
        && let Some((content, sum)) = bytes.split_last_chunk_mut::<4>()
    {
        *sum = crc32(content).to_le_bytes();
    }
    bytes
}

fn event(
    type_code: EventType,
    server_id: ServerId,
    log_pos: u32,
    flags: u16,
    body: &[u8],
    checksum: bool,
) -> Vec<u8> {
    let size = HEADER_LEN + body.len() + if checksum { 4 } else { 0 };
    let header = EventHeader {
        timestamp: 0, // leaves the replica's clock difference untouched
        type_code,
        server_id: server_id.0,
        // A body is a file name of at most 512 bytes and eight more.
        event_size: u32::try_from(size).unwrap_or(u32::MAX),
        log_pos,
        flags,
    };
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(body);
    if checksum {
        let crc = crc32(&out);
        out.extend_from_slice(&crc.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artificial_rotate_equals_the_one_of_a_real_server() {
        // MySQL 5.6.24, server id 1, asked for mysql-bin.000001 at 452, checksum CRC32.
        let to: BinlogPosition = "mysql-bin.000001:452".parse().unwrap();
        let plain = artificial_rotate(ServerId(1), &to, false);
        let expected = [
            &[0, 0, 0, 0, 4, 1, 0, 0, 0, 43, 0, 0, 0, 0, 0, 0, 0, 0x20, 0][..],
            &[0xc4, 1, 0, 0, 0, 0, 0, 0],
            b"mysql-bin.000001",
        ]
        .concat();
        assert_eq!(plain, expected);
        let summed = artificial_rotate(ServerId(1), &to, true);
        assert_eq!(summed.len(), plain.len() + 4);
        let (body, crc) = summed.split_at(plain.len());
        assert_eq!(crc, crc32(body).to_le_bytes());
    }

    #[test]
    fn a_heartbeat_says_file_and_position_or_is_not_made() {
        let at: BinlogPosition = "b.000001:1308".parse().unwrap();
        let made = heartbeat(ServerId(1), &at, false).unwrap();
        assert_eq!(made[4], 27);
        assert_eq!(made[13..17], 1308u32.to_le_bytes());
        assert_eq!(&made[HEADER_LEN..], b"b.000001");
        let far: BinlogPosition = "b.000001:4294967296".parse().unwrap();
        assert_eq!(heartbeat(ServerId(1), &far, false), None);
    }
}
