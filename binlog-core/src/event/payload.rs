//! TRANSACTION_PAYLOAD_EVENT (8.0.20): a whole transaction, compressed. It is one unit here: BEGIN to commit is inside,
//! nothing of it is decompressed.

/// True for the only two compression types there are: 0 (zstd) and 255 (none); `None` if the body is malformed.
#[must_use]
pub fn compression_type(body: &[u8]) -> Option<u64> {
    let mut rest = body;
    loop {
        let (field, tail) = packed(rest)?;
        // OTW_PAYLOAD_HEADER_END_MARK
        if field == 0 {
            return None;
        }
        let (length, tail) = packed(tail)?;
        let (value, tail) = tail.split_at_checked(usize::try_from(length).ok()?)?;
        // OTW_PAYLOAD_COMPRESSION_TYPE_FIELD
        if field == 2 {
            return packed(value).map(|(kind, _)| kind);
        }
        rest = tail;
    }
}

/// A length-encoded integer of the protocol.
fn packed(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first {
        0..=250 => return Some((u64::from(first), rest)),
        252 => 2,
        253 => 3,
        254 => 8,
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(width)?;
    let value = digits
        .iter()
        .rev()
        .fold(0_u64, |value, &b| (value << 8) | u64::from(b));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_types_are_read() {
        assert_eq!(compression_type(&[3, 1, 9, 2, 1, 0, 1, 1, 5, 0]), Some(0));
        assert_eq!(compression_type(&[2, 3, 252, 255, 0, 0]), Some(255));
        assert_eq!(compression_type(&[0]), None);
        assert_eq!(compression_type(&[2, 200, 1]), None);
        assert_eq!(compression_type(&[]), None);
    }
}
