//! MariaDB's own events: GTID_EVENT opens a group, GTID_LIST_EVENT and BINLOG_CHECKPOINT_EVENT are bookkeeping.

use super::bytes::Cursor;
use crate::gtid::{MariaDbGtid, MariaDbGtidPos};

/// `FL_STANDALONE`: the group is this event and one more statement, without a closing event.
pub const FLAG_STANDALONE: u8 = 0x01;
/// `FL_GROUP_COMMIT_ID`: a commit id follows.
pub const FLAG_GROUP_COMMIT_ID: u8 = 0x02;
/// `FL_TRANSACTIONAL`: can be rolled back.
pub const FLAG_TRANSACTIONAL: u8 = 0x04;
/// `FL_DDL`.
pub const FLAG_DDL: u8 = 0x20;
/// `FL_PREPARED_XA`.
pub const FLAG_PREPARED_XA: u8 = 0x40;
/// `FL_COMPLETED_XA`.
pub const FLAG_COMPLETED_XA: u8 = 0x80;

/// GTID_EVENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MariaDbGtidEvent {
    /// The GTID.
    pub gtid: MariaDbGtid,
    /// Flags.
    pub flags: u8,
}

impl MariaDbGtidEvent {
    /// Reads a body (number 8, domain 4, flags 1, ..); the server id is in the event's header.
    #[must_use]
    pub fn parse(body: &[u8], server_id: u32) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        let seq_no = cursor.u64()?;
        let domain_id = cursor.u32()?;
        let flags = cursor.u8()?;
        Some(Self {
            gtid: MariaDbGtid {
                domain_id,
                server_id,
                seq_no,
            },
            flags,
        })
    }

    /// No closing event follows.
    #[must_use]
    pub fn standalone(&self) -> bool {
        self.flags & FLAG_STANDALONE != 0
    }
}

/// GTID_LIST_EVENT: the last GTID of each (domain, server) before this file; in each domain the last one listed is the
/// newest. Count in 28 bits, flags in 4, then domain 4, server 4, number 8 each.
#[must_use]
pub fn parse_gtid_list(body: &[u8]) -> Option<MariaDbGtidPos> {
    let mut cursor = Cursor::new(body);
    let count = cursor.u32()? & 0x0fff_ffff;
    let mut position = MariaDbGtidPos::default();
    for _ in 0..count {
        let domain_id = cursor.u32()?;
        let server_id = cursor.u32()?;
        let seq_no = cursor.u64()?;
        position.update(MariaDbGtid {
            domain_id,
            server_id,
            seq_no,
        });
    }
    Some(position)
}

/// BINLOG_CHECKPOINT_EVENT: the oldest file that recovery needs. Length 4, name.
#[must_use]
pub fn parse_binlog_checkpoint(body: &[u8]) -> Option<&str> {
    let mut cursor = Cursor::new(body);
    let len = usize::try_from(cursor.u32()?).ok()?;
    std::str::from_utf8(cursor.take(len)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_head_is_read() {
        let body = [9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x29, 0, 0];
        let event = MariaDbGtidEvent::parse(&body, 7).unwrap();
        assert_eq!(event.gtid.to_string(), "1-7-9");
        assert!(event.standalone());
        assert_eq!(MariaDbGtidEvent::parse(&body[..12], 7), None);
    }

    #[test]
    fn a_list_is_read_and_a_false_count_ends() {
        let mut body = 2_u32.to_le_bytes().to_vec();
        for (domain, server, seq) in [(0_u32, 1_u32, 5_u64), (0, 2, 9)] {
            body.extend_from_slice(&domain.to_le_bytes());
            body.extend_from_slice(&server.to_le_bytes());
            body.extend_from_slice(&seq.to_le_bytes());
        }
        assert_eq!(parse_gtid_list(&body).unwrap().to_string(), "0-2-9");
        assert_eq!(parse_gtid_list(&body[..30]), None);
        assert_eq!(parse_gtid_list(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(parse_binlog_checkpoint(b"\x03\0\0\0b.1"), Some("b.1"));
        assert_eq!(parse_binlog_checkpoint(b"\xff\xff\xff\xffb.1"), None);
    }
}
