//! The few changes that are ever made to an event: fields of a format description.

use crate::event::format_description::CREATED_OFFSET;
use crate::event::{EventHeader, EventType, FLAG_ARTIFICIAL, FLAG_IN_USE, FormatDescription};

/// Offset of `log_pos` in an event.
const LOG_POS_OFFSET: usize = 13;
/// Offset of `flags` in an event.
const FLAGS_OFFSET: usize = 17;

/// How [`patch_format_description`] alters an event. The in-use and artificial flags are always cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FormatDescriptionPatch {
    /// `created` := 0 (the source did not restart: an open transaction and temporary tables stay).
    pub zero_created: bool,
    /// `log_pos` := 0 (the event takes no place in the stream).
    pub zero_log_pos: bool,
}

/// A format description event with its in-use and artificial flags cleared, further changed as `patch` says, checksum
/// recomputed where anything changed. `raw` is the whole event; anything that is no whole format description comes back
/// unchanged.
#[must_use]
pub fn patch_format_description(raw: &[u8], patch: FormatDescriptionPatch) -> Vec<u8> {
    let mut out = raw.to_vec();
    let (Some(header), Some(description)) =
        (EventHeader::parse(raw), FormatDescription::parse(raw))
    else {
        return out;
    };
    if header.type_code != EventType::FORMAT_DESCRIPTION || header.event_size as usize != raw.len()
    {
        return out;
    }
    let flags = header.flags & !(FLAG_IN_USE | FLAG_ARTIFICIAL);
    put(&mut out, FLAGS_OFFSET, &flags.to_le_bytes());
    if patch.zero_created {
        put(&mut out, CREATED_OFFSET, &[0; 4]);
    }
    if patch.zero_log_pos {
        put(&mut out, LOG_POS_OFFSET, &[0; 4]);
    }
    if description.has_checksum_field && out != raw {
        let sum = out
            .split_last_chunk::<4>()
            .map(|(content, _)| crc32fast::hash(content));
        if let (Some(sum), Some(at)) = (sum, out.len().checked_sub(4)) {
            put(&mut out, at, &sum.to_le_bytes());
        }
    }
    out
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    for (slot, byte) in out.iter_mut().skip(at).zip(bytes) {
        *slot = *byte;
    }
}
