//! The walk over one file as the manual describes it, on bytes in memory: the model of the reader.

use binlog_core::checksum::{ChecksumAlgorithm, crc32};
use binlog_core::event::{
    FLAG_ARTIFICIAL, FLAG_RELAY_LOG, FormatDescription, HEADER_LEN, MAGIC, MAGIC_ENCRYPTED,
};
use binlog_core::{EventHeader, EventType};

/// `max_allowed_packet` is at most 1 GiB.
const EVENT_MAX: u32 = (1 << 30) + (1 << 20);

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct NaiveEvent<'a> {
    /// Where it starts.
    pub offset: usize,
    /// Its header.
    pub header: EventHeader,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// It ends with a checksum.
    pub checksum: ChecksumAlgorithm,
    /// Setting of the events that follow.
    pub setting: ChecksumAlgorithm,
}

impl NaiveEvent<'_> {
    /// Offset behind it.
    pub fn end(&self) -> usize {
        self.offset + self.bytes.len()
    }
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NaiveEnd {
    /// At an event.
    Boundary(usize),
    /// The event there is cut off.
    Torn(usize),
    /// The event there is damaged.
    Corrupt(usize),
    /// Encrypted from there on.
    Encrypted(usize),
    /// No log.
    Foreign,
}

impl NaiveEnd {
    /// Where the usable bytes end.
    pub fn offset(self) -> usize {
        match self {
            Self::Boundary(at) | Self::Torn(at) | Self::Corrupt(at) | Self::Encrypted(at) => at,
            Self::Foreign => 0,
        }
    }
}

/// All events of a file and how it ends.
pub fn walk(file: &[u8]) -> (Vec<NaiveEvent<'_>>, NaiveEnd) {
    let mut events = Vec::new();
    let magic = &file[..file.len().min(4)];
    if magic == MAGIC_ENCRYPTED {
        return (events, NaiveEnd::Encrypted(0));
    }
    if !MAGIC.starts_with(magic) {
        return (events, NaiveEnd::Foreign);
    }
    if magic.len() < 4 {
        return (events, NaiveEnd::Torn(0));
    }
    let mut offset = 4;
    let mut setting = None;
    let end = loop {
        let rest = &file[offset..];
        if rest.is_empty() {
            break NaiveEnd::Boundary(offset);
        }
        let Some(header) = EventHeader::parse(rest) else {
            break NaiveEnd::Torn(offset);
        };
        if header.event_size < HEADER_LEN && rest.iter().all(|&b| b == 0) {
            break NaiveEnd::Torn(offset);
        }
        if header.event_size < HEADER_LEN || header.event_size > EVENT_MAX {
            break NaiveEnd::Corrupt(offset);
        }
        let Some(bytes) = rest.get(..header.event_size as usize) else {
            break NaiveEnd::Torn(offset);
        };
        let Some((checksum, then)) = settings(header, bytes, setting) else {
            break NaiveEnd::Corrupt(offset);
        };
        if header.type_code == EventType::MARIADB_START_ENCRYPTION {
            break NaiveEnd::Encrypted(offset);
        }
        setting = Some(then);
        events.push(NaiveEvent {
            offset,
            header,
            bytes,
            checksum,
            setting: then,
        });
        offset += bytes.len();
    };
    (events, end)
}

/// The headers as a walk that begins with these events tells them: inside a MariaDB group an event without a place ends
/// behind the one before it.
pub fn placed(events: &[NaiveEvent<'_>]) -> Vec<EventHeader> {
    let mut end_before: Option<u32> = None;
    let mut headers = Vec::new();
    for event in events {
        let mut header = event.header;
        let ends_group = header.flags & (FLAG_ARTIFICIAL | FLAG_RELAY_LOG) != 0
            || [3, 4, 15, 27, 41, 161, 163].contains(&header.type_code.0);
        if header.type_code == EventType::MARIADB_GTID && !ends_group {
            end_before = Some(header.log_pos);
        } else if ends_group {
            end_before = None;
        } else if let Some(before) = end_before {
            if header.log_pos == 0 {
                header.log_pos = before.wrapping_add(header.event_size);
            }
            end_before = Some(header.log_pos).filter(|_| header.type_code != EventType::XID);
        }
        headers.push(header);
    }
    headers
}

/// (setting of the event, of those that follow) if it is not damaged.
fn settings(
    header: EventHeader,
    bytes: &[u8],
    setting: Option<ChecksumAlgorithm>,
) -> Option<(ChecksumAlgorithm, ChecksumAlgorithm)> {
    use ChecksumAlgorithm::{Crc32, None as NoChecksum};
    let mut content = bytes.to_vec();
    if header.type_code == EventType::FORMAT_DESCRIPTION {
        let description = FormatDescription::parse(bytes)?;
        // The server flips the in-use flag without a new sum.
        content[17] &= !1;
        let mut on = content.clone();
        let algorithm = on.len().saturating_sub(5);
        on[algorithm] = 1;
        // A source with checksums off zeroes fields and leaves the sum as it was.
        let sent = description.checksum == NoChecksum && header.log_pos == 0 && !is_right(&on);
        let right = !description.has_checksum_field || sent || is_right(&content);
        let field = if description.has_checksum_field {
            Crc32
        } else {
            NoChecksum
        };
        return right.then_some((field, description.checksum));
    }
    let setting = setting?;
    let right =
        setting == NoChecksum || (bytes.len() >= HEADER_LEN as usize + 4 && is_right(&content));
    right.then_some((setting, setting))
}

fn is_right(event: &[u8]) -> bool {
    event
        .split_last_chunk::<4>()
        .is_some_and(|(content, sum)| crc32(content) == u32::from_le_bytes(*sum))
}
