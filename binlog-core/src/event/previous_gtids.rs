//! PREVIOUS_GTIDS_LOG_EVENT: all GTIDs before this file. Not written to relay logs.
//!
//! Eight bytes of count (the top byte is 1 for the format with tags, where bits 8..55 are the count), then per UUID (and
//! tag): UUID 16, tag (length, text) in the tagged format, number of intervals 8, intervals of 8 + 8 with exclusive ends.

use super::bytes::Cursor;
use super::gtid::read_varlen;
use crate::gtid::{GtidSet, Tag};

/// Reads a body.
#[must_use]
pub fn parse(body: &[u8]) -> Option<GtidSet> {
    let mut cursor = Cursor::new(body);
    let head = cursor.u64()?;
    let tagged = head >> 56 != 0;
    let count = if tagged {
        (head >> 8) & 0xffff_ffff_ffff
    } else {
        head
    };
    let mut set = GtidSet::default();
    // The counts are not trusted: each round takes bytes from the body, so the loops end with it.
    for _ in 0..count {
        let uuid = cursor.uuid()?;
        let mut tag = Tag::default();
        if tagged {
            let len = usize::try_from(read_varlen(&mut cursor)?).ok()?;
            if len > 0 {
                tag = std::str::from_utf8(cursor.take(len)?).ok()?.parse().ok()?;
            }
        }
        let intervals = cursor.u64()?;
        for _ in 0..intervals {
            let first = cursor.u64()?;
            let end = cursor.u64()?;
            set.insert_range(uuid, &tag, first, end.checked_sub(1)?)
                .ok()?;
        }
    }
    cursor.rest().is_empty().then_some(set)
}

/// The body of an empty set, bytes.
pub const SHORTEST: u64 = 8;

/// True if a Previous_gtids body can have this length: used for events that a relay log lacks.
#[must_use]
pub fn plausible_length(len: u64) -> bool {
    // Untagged: 8 + 24 per UUID + 16 per interval, at least one interval per UUID. With tags: 25 to 57 per UUID and tag.
    // No event is larger than the largest packet.
    match len.checked_sub(8).filter(|&rest| rest <= 1 << 30) {
        Some(0) => true,
        Some(rest) if rest >= 40 && rest.is_multiple_of(8) => true,
        Some(rest) => rest >= 41,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_damaged_counts_end() {
        let mut body = 1_u64.to_le_bytes().to_vec();
        body.extend_from_slice(&[0x22; 16]);
        for n in [2_u64, 1, 6, 8, 9] {
            body.extend_from_slice(&n.to_le_bytes());
        }
        assert_eq!(
            parse(&body).unwrap().to_string(),
            "22222222-2222-2222-2222-222222222222:1-5:8"
        );
        for len in 0..body.len() {
            assert_eq!(parse(&body[..len]), None, "{len}");
        }
        body[6] = 0xff;
        assert_eq!(parse(&body), None);
        assert_eq!(parse(&[0; 8]), Some(GtidSet::default()));
    }
}
