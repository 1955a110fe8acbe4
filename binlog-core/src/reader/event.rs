//! What a walk hands out: an event as it is in the file, and how a file ends.

use crate::checksum::ChecksumAlgorithm;
use crate::event::{EventHeader, EventType, HEADER_LEN};

/// How a file ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEnd {
    /// At an event boundary.
    Boundary,
    /// The event at `offset` is cut off.
    Torn {
        /// Its start.
        offset: u64,
        /// What is there.
        detail: String,
    },
    /// The event at `offset` is damaged.
    Corrupt {
        /// Its start.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// One event as it is in the file.
#[derive(Debug, Clone, Copy)]
pub struct RawEvent<'a> {
    /// Offset in the file.
    pub offset: u64,
    /// Header.
    pub header: EventHeader,
    /// Header, body, checksum; of an event over [`INLINE_MAX`](super::INLINE_MAX) only the first part.
    pub bytes: &'a [u8],
    /// The event ends with a checksum.
    pub checksum: ChecksumAlgorithm,
}

impl<'a> RawEvent<'a> {
    /// True if `bytes` is the whole event.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.bytes.len() == self.header.event_size as usize
    }

    /// The body without header and checksum; cut off if the event is not whole.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        let tail = if self.is_whole() {
            self.checksum.len() as usize
        } else {
            0
        };
        let end = self.bytes.len().saturating_sub(tail);
        self.bytes.get(HEADER_LEN as usize..end).unwrap_or_default()
    }

    /// Offset in the file right after it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.header.event_size)
    }

    /// Its type.
    #[must_use]
    pub fn type_code(&self) -> EventType {
        self.header.type_code
    }
}

/// One step of a walk.
#[derive(Debug)]
pub enum Step<'a> {
    /// The next event.
    Event(RawEvent<'a>),
    /// No further event.
    End(FileEnd),
}

pub(super) fn torn(offset: u64, detail: String) -> FileEnd {
    FileEnd::Torn { offset, detail }
}

pub(super) fn corrupt(offset: u64, expected: impl Into<String>, found: String) -> FileEnd {
    FileEnd::Corrupt {
        offset,
        expected: expected.into(),
        found,
    }
}
