//! ROTATE_EVENT: the stream goes on at another place.

use super::bytes::Cursor;
use crate::position::{BinlogFileName, BinlogPosition};

/// Body of a Rotate: the next position (8 bytes) and the file name up to the end.
#[must_use]
pub fn parse(body: &[u8]) -> Option<BinlogPosition> {
    let mut cursor = Cursor::new(body);
    let offset = cursor.u64()?;
    let name = std::str::from_utf8(cursor.rest()).ok()?;
    let file: BinlogFileName = name.parse().ok()?;
    // No file is larger than an `i64` can tell: what follows can be added without overflow.
    let plausible = offset >= super::FIRST_EVENT && i64::try_from(offset).is_ok();
    plausible.then(|| BinlogPosition::new(file, offset))
}

/// The body of a Rotate to `position`.
#[must_use]
pub fn body(position: &BinlogPosition) -> Vec<u8> {
    let mut out = position.offset.to_le_bytes().to_vec();
    out.extend_from_slice(position.file.as_str().as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotate_names_file_and_position() {
        let position: BinlogPosition = "mysql-bin.000002:4".parse().unwrap();
        assert_eq!(parse(&body(&position)), Some(position));
        assert_eq!(parse(b"\x04\0\0\0\0\0\0\0"), None);
        assert_eq!(parse(b"\x04\0\0\0\0\0\0\0../x.000001"), None);
        assert_eq!(parse(b"\x03\0\0\0\0\0\0\0x.000001"), None);
        assert_eq!(parse(b"\0\0\0\0\0\0\0\x80x.000001"), None);
    }
}
