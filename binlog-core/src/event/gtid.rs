//! GTID_LOG_EVENT, ANONYMOUS_GTID_LOG_EVENT, GTID_TAGGED_LOG_EVENT: open a transaction.

use super::bytes::Cursor;
use crate::gtid::{Gtid, Tag};

/// Reads a GTID_LOG_EVENT (or the anonymous kind, whose GTID is meaningless): flags 1, UUID 16, number 8, ..
#[must_use]
pub fn parse(body: &[u8]) -> Option<Gtid> {
    let mut cursor = Cursor::new(body);
    cursor.skip(1)?;
    let uuid = cursor.uuid()?;
    let number = cursor.u64()?;
    Some(Gtid {
        uuid,
        tag: Tag::default(),
        number,
    })
}

/// The logical timestamp of a transaction: 1 for the first of each file. From a GTID_LOG_EVENT of MySQL 5.7 and newer:
/// behind the number a type 1 (always 2), last_committed 8, sequence_number 8.
#[must_use]
pub fn sequence_number(body: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(body);
    cursor.skip(25)?;
    (cursor.u8()? == 2).then_some(())?;
    cursor.u64()?;
    cursor.u64()
}

/// The same from a GTID_TAGGED_LOG_EVENT: fields 4 (last_committed) and 5 behind the tag.
#[must_use]
pub fn sequence_number_tagged(body: &[u8]) -> Option<u64> {
    let mut cursor = Cursor::new(body);
    tagged(&mut cursor)?;
    (varlen(&mut cursor)? == 4).then_some(())?;
    varlen(&mut cursor)?;
    (varlen(&mut cursor)? == 5).then_some(())?;
    Some(varlen(&mut cursor)? >> 1)
}

/// Reads a GTID_TAGGED_LOG_EVENT (8.3): a message of numbered fields, integers of variable length.
#[must_use]
pub fn parse_tagged(body: &[u8]) -> Option<Gtid> {
    tagged(&mut Cursor::new(body))
}

/// Reads up to the tag.
fn tagged(cursor: &mut Cursor<'_>) -> Option<Gtid> {
    let version = varlen(cursor)?;
    let _size = varlen(cursor)?;
    let _last_non_ignorable = varlen(cursor)?;
    if version != 1 {
        return None;
    }
    let mut uuid = [0; 16];
    let mut number = None;
    // Fields 0 flags, 1 UUID, 2 number, 3 tag, in this order; what follows is of no use here.
    loop {
        match varlen(cursor)? {
            0 => {
                varlen(cursor)?;
            }
            1 => {
                for byte in &mut uuid {
                    *byte = u8::try_from(varlen(cursor)?).ok()?;
                }
            }
            2 => number = Some(varlen(cursor)? >> 1),
            3 => {
                let len = usize::try_from(varlen(cursor)?).ok()?;
                let tag = std::str::from_utf8(cursor.take(len)?).ok()?;
                return Some(Gtid {
                    uuid,
                    tag: tag.parse().ok()?,
                    number: number?,
                });
            }
            _ => return None,
        }
    }
}

/// An integer whose first byte tells by its trailing ones how many bytes follow.
fn varlen(cursor: &mut Cursor<'_>) -> Option<u64> {
    let first = cursor.u8()?;
    let extra = first.trailing_ones();
    if extra == 8 {
        return cursor.u64();
    }
    let tail = cursor.take(extra as usize)?;
    let high = tail
        .iter()
        .rev()
        .fold(0_u64, |value, &b| (value << 8) | u64::from(b));
    // `extra` + 1 bits of the first byte are the prefix.
    let low_bits = 7 - extra;
    let low = if low_bits == 0 {
        0
    } else {
        u64::from(first >> (extra + 1))
    };
    Some((high << low_bits) | low)
}

/// Reads a varlen integer for [`super::previous_gtids`].
pub(super) fn read_varlen(cursor: &mut Cursor<'_>) -> Option<u64> {
    varlen(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untagged_gtid_is_read() {
        let mut body = vec![1];
        body.extend_from_slice(&[0x11; 16]);
        body.extend_from_slice(&23_u64.to_le_bytes());
        assert_eq!(
            parse(&body).unwrap().to_string(),
            "11111111-1111-1111-1111-111111111111:23"
        );
        assert_eq!(parse(&body[..24]), None);
    }

    #[test]
    fn a_tagged_gtid_is_read() {
        let body = hex::decode(concat!(
            "027600",
            "0002",
            "022502dcf0090230f90322bd03ad02210244445a68510322",
            "0404",
            "060c666f6f62617a",
            "0800",
            "0a04",
        ))
        .unwrap();
        assert_eq!(
            parse_tagged(&body).unwrap().to_string(),
            "896e7882-18fe-11ef-ab88-22222d34d411:foobaz:1"
        );
        for len in 0..38 {
            assert_eq!(parse_tagged(&body[..len]), None, "{len}");
        }
    }

    #[test]
    fn integers_of_all_lengths_are_read() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0xfe], 127),
            (&[0x01, 0x02], 128),
            (&[0xfd, 0xff], 16383),
            (&[0x03, 0x00, 0x02], 16384),
            (&[0xff, 1, 2, 3, 4, 5, 6, 7, 8], 0x0807_0605_0403_0201),
        ] {
            assert_eq!(varlen(&mut Cursor::new(bytes)), Some(value), "{bytes:x?}");
        }
        assert_eq!(varlen(&mut Cursor::new(&[0x01])), None);
        assert_eq!(varlen(&mut Cursor::new(&[])), None);
    }
}
