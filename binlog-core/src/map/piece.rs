//! A piece: consecutive events of one primary file, consecutive in one file of a provider.

use crate::checksum::ChecksumAlgorithm;
use crate::event::{EventHeader, EventType};
use crate::extent::TransactionRef;
use crate::position::{BinlogFileName, BinlogPosition};
use crate::reader::RawEvent;
use crate::transaction::{Ended, Tracker, is_bookkeeping};

use super::walk::{ends_at, start_behind};

/// Marks per piece before they thin out.
const MARKS_MAX: usize = 1024;
/// Bytes between marks at first.
pub(super) const MARK_STRIDE: u64 = 1 << 20;

/// How a piece follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Nothing is before it, or something is missing in between.
    Broken,
    /// It continues the same primary file.
    Contiguous,
    /// In between are only events that the provider does not store.
    Unstored,
    /// It starts the next primary file at 4.
    NextFile,
}

/// A format description of the primary as a provider holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormatRef {
    pub(crate) source: usize,
    pub(crate) offset: u64,
    pub(crate) header: EventHeader,
    /// Setting of the events that follow it.
    pub(crate) checksum: ChecksumAlgorithm,
}

impl FormatRef {
    /// What tells two files of the same name apart: the second it was made in and the server.
    pub(super) fn identity(&self) -> (u32, u32) {
        (self.header.timestamp, self.header.server_id)
    }
}

/// A boundary and what was known there.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// In the primary's file: start of an event.
    pub(crate) offset: u64,
    /// In the provider's file.
    pub(crate) at: u64,
    pub(crate) tracker: Tracker,
}

/// A transaction that ends in a piece, in numbers: one is noted for every transaction walked, and shown to hardly anyone.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    /// In the primary's file.
    pub(super) end: u64,
    pub(super) ended: Ended,
}

/// Consecutive events of one primary file, consecutive in one file of the provider.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) join: Join,
    /// Which file, where the first event is in it and where the last one ends.
    pub(crate) source: usize,
    pub(crate) at: u64,
    pub(crate) end_at: u64,
    /// Events that the provider does not store are missing between some of these (MariaDB's Annotate_rows, one for each
    /// statement): offsets do not differ by a constant.
    pub(crate) sparse: bool,
    /// Where they are in the primary's stream. `from == to`: the stream is known to be there, no event is held.
    pub(crate) file: BinlogFileName,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) checksum: ChecksumAlgorithm,
    pub(crate) format: Option<FormatRef>,
    /// Server id of the primary, where known.
    pub(crate) origin: Option<u32>,
    pub(crate) marks: Vec<Mark>,
    pub(super) stride: u64,
    /// Where the next mark is due.
    pub(super) next_mark: u64,
    /// Transactions after the last event.
    pub(crate) after: Tracker,
    pub(super) last_whole: Option<Whole>,
    /// The last event is the primary's Rotate to there.
    pub(crate) rotate_to: Option<BinlogPosition>,
    /// It holds an event that is no bookkeeping.
    pub(crate) has_data: bool,
}

impl Piece {
    /// Start of an event, when the one before it ended at `expected`.
    pub(super) fn start_of(&self, header: &EventHeader, expected: u64) -> Option<u64> {
        let start = if self.sparse && header.type_code != EventType::FORMAT_DESCRIPTION {
            start_behind(header, expected)
        } else {
            expected
        };
        let end = start + u64::from(header.event_size);
        (end <= self.to
            && (ends_at(header, end) || header.type_code == EventType::FORMAT_DESCRIPTION))
            .then_some(start)
    }

    pub(crate) fn start(&self) -> BinlogPosition {
        BinlogPosition::new(self.file.clone(), self.from)
    }

    /// End of the last event; a Rotate leads to the next file.
    pub(crate) fn end(&self) -> BinlogPosition {
        self.rotate_to
            .clone()
            .unwrap_or_else(|| BinlogPosition::new(self.file.clone(), self.to))
    }

    /// The nearest mark at or before a place.
    pub(crate) fn mark_before(&self, offset: u64) -> Option<&Mark> {
        self.marks.get(
            self.marks
                .partition_point(|mark| mark.offset <= offset)
                .checked_sub(1)?,
        )
    }

    /// The last transaction that ends in this piece.
    pub(crate) fn last_whole(&self) -> Option<TransactionRef> {
        self.last_whole.as_ref().map(|whole| TransactionRef {
            end: BinlogPosition::new(self.file.clone(), whole.end),
            gtid: whole.ended.gtid.as_ref().map(ToString::to_string),
            xid: whole.ended.xid,
        })
    }

    /// Where the last transaction that ends in this piece ends, in the primary's file.
    pub(crate) fn ended_at(&self) -> Option<u64> {
        self.last_whole.as_ref().map(|whole| whole.end)
    }

    /// An event of the same kind in the same file stands right behind the last one.
    pub(super) fn continues(
        &self,
        event: &RawEvent<'_>,
        checksum: ChecksumAlgorithm,
        source: usize,
    ) -> bool {
        self.source == source && self.end_at == event.offset && self.checksum == checksum
    }

    /// Takes the event that stands at `start`; true if a transaction ends with it. This runs for every event of a log and
    /// takes no memory but for marks.
    #[inline]
    pub(super) fn grow(&mut self, event: &RawEvent<'_>, start: u64) -> bool {
        self.sparse |= start != self.to;
        if start >= self.next_mark {
            self.mark(event, start);
        }
        let ended = self.after.feed(event, start);
        self.to = start + u64::from(event.header.event_size);
        self.end_at = event.end();
        self.has_data |= !is_bookkeeping(event.type_code());
        let Some(ended) = ended else { return false };
        self.last_whole = Some(Whole {
            end: self.to,
            ended,
        });
        true
    }

    #[cold]
    fn mark(&mut self, event: &RawEvent<'_>, start: u64) {
        if self.marks.len() >= MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride = self.stride.saturating_mul(2);
        }
        self.marks.push(Mark {
            offset: start,
            at: event.offset,
            tracker: self.after.clone(),
        });
        self.next_mark = start.saturating_add(self.stride);
    }

    /// The part before `offset`, a boundary of which `tracker` and `last_whole` hold.
    pub(crate) fn truncated(
        mut self,
        offset: u64,
        end_at: u64,
        after: Tracker,
        last_whole: Option<Whole>,
    ) -> Self {
        self.marks.retain(|mark| mark.offset <= offset);
        self.to = offset;
        self.end_at = end_at;
        self.after = after;
        self.last_whole = last_whole;
        self.rotate_to = None;
        self.has_data &= self.from < self.to;
        self
    }
}
