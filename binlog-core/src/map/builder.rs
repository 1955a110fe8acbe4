//! Puts a map together while a provider is walked.

use std::path::PathBuf;

use crate::checksum::ChecksumAlgorithm;
use crate::end::LogEnd;
use crate::position::BinlogPosition;
use crate::reader::RawEvent;
use crate::transaction::Tracker;

use super::Map;
use super::piece::{FormatRef, Join, MARK_STRIDE, Mark, Piece};

/// Puts pieces together while a provider is walked.
#[derive(Debug)]
pub(crate) struct MapBuilder {
    pieces: Vec<Piece>,
    /// Where the stream is; the file is unknown until something names it.
    at: Option<BinlogPosition>,
    format: Option<FormatRef>,
    origin: Option<u32>,
    checksum: ChecksumAlgorithm,
    /// Between the last event and the next are events that the provider does not store.
    skipped: bool,
    /// `at` is where the last piece ends: nothing but events came since.
    flowing: bool,
}

impl MapBuilder {
    pub(crate) fn new() -> Self {
        Self {
            pieces: Vec::new(),
            at: None,
            format: None,
            origin: None,
            checksum: ChecksumAlgorithm::None,
            skipped: false,
            flowing: false,
        }
    }

    pub(crate) fn at(&self) -> Option<&BinlogPosition> {
        self.at.as_ref()
    }

    pub(crate) fn last(&self) -> Option<&Piece> {
        self.pieces.last()
    }

    /// Everything so far is of the primary's file in which the walk began.
    pub(crate) fn pieces_of_one_file(&self) -> bool {
        let first = self.pieces.first().map(|piece| &piece.file);
        self.pieces.last().map(|piece| &piece.file) == first
    }

    pub(crate) fn pieces_mut(&mut self) -> &mut Vec<Piece> {
        &mut self.pieces
    }

    /// Transactions at the place reached.
    pub(crate) fn tracker(&self) -> Tracker {
        self.pieces
            .last()
            .map_or_else(Tracker::unknown, |piece| piece.after.clone())
    }

    /// What follows is another server's or unknown: no position until something states one.
    pub(crate) fn lose_position(&mut self) {
        self.at = None;
        self.format = None;
        self.flowing = false;
    }

    /// True if events under the setting `checksum` cannot follow what was received of the current file: one description
    /// is at the head of a segment, and they would be misread behind it.
    pub(crate) fn is_misread(&self, checksum: ChecksumAlgorithm) -> bool {
        match (&self.format, self.pieces.last()) {
            (Some(format), _) => format.checksum != checksum,
            (None, Some(last)) => {
                last.from < last.to
                    && last.checksum != checksum
                    && self.at.as_ref().is_some_and(|at| at.file == last.file)
            }
            (None, None) => false,
        }
    }

    /// The primary's server id as far as known.
    pub(crate) fn set_origin(&mut self, server_id: u32) {
        self.origin = Some(server_id);
    }

    /// The stream is at `position` now, as something said; the next event stands at `physical` in `source`. Where
    /// nothing came before, a stated position is taken for a place between transactions: a receiver starts there.
    pub(crate) fn go_to(
        &mut self,
        position: BinlogPosition,
        join: Join,
        source: usize,
        physical: u64,
    ) {
        let tracker = match join {
            Join::Contiguous | Join::Unstored => self.tracker(),
            Join::NextFile | Join::Broken => Tracker::outside(),
        };
        self.begin(position, join, source, physical, tracker);
    }

    /// As [`Self::go_to`], where the position was only concluded: perhaps inside a transaction.
    pub(crate) fn found_at(&mut self, position: BinlogPosition, source: usize, physical: u64) {
        self.begin(position, Join::Broken, source, physical, Tracker::unknown());
    }

    /// What was added of the current file since `start`, a place between transactions that is at `physical` of its source, does
    /// not stand where it was said to.
    pub(crate) fn forget_since(&mut self, start: u64, physical: u64) {
        self.flowing = false;
        let file = self.at.as_ref().map(|at| at.file.clone());
        while let Some(last) = self
            .pieces
            .pop_if(|last| Some(&last.file) == file.as_ref() && last.to > start)
        {
            if last.from < start {
                let last_whole = last.last_whole.clone();
                let part = last.truncated(start, physical, Tracker::outside(), last_whole);
                self.pieces.push(part);
            }
        }
    }

    /// The next event stands at `offset` of the same file; in between are only events that the provider does not store.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        if let Some(at) = &mut self.at {
            at.offset = offset;
            self.skipped = true;
            self.flowing = false;
        }
    }

    /// As [`Self::go_to`] with what is known of transactions.
    pub(crate) fn begin(
        &mut self,
        position: BinlogPosition,
        join: Join,
        source: usize,
        physical: u64,
        tracker: Tracker,
    ) {
        if self.at.as_ref().is_some_and(|at| at.file != position.file) || join == Join::NextFile {
            self.format = None;
        }
        self.at = Some(position.clone());
        self.skipped = false;
        self.push(position, join, source, physical, tracker);
    }

    fn push(
        &mut self,
        position: BinlogPosition,
        join: Join,
        source: usize,
        at: u64,
        after: Tracker,
    ) {
        self.flowing = false;
        let mut join = join;
        // A place without events that the new piece takes over.
        if let Some(last) = self.pieces.last()
            && last.from == last.to
            && last.file == position.file
            && last.to == position.offset
            && join == Join::Contiguous
        {
            join = last.join;
            self.pieces.pop();
        }
        if self.pieces.is_empty() {
            join = Join::Broken;
        }
        self.pieces.push(Piece {
            join,
            source,
            at,
            end_at: at,
            sparse: false,
            from: position.offset,
            to: position.offset,
            file: position.file,
            checksum: self.checksum,
            format: self.format.clone(),
            origin: self.origin,
            marks: vec![Mark {
                offset: position.offset,
                at,
                tracker: after.clone(),
            }],
            stride: MARK_STRIDE,
            next_mark: position.offset.saturating_add(MARK_STRIDE),
            after,
            last_whole: None,
            rotate_to: None,
            has_data: false,
        });
    }

    /// The primary's format description of the current file. While no position is known, that is no file received so far.
    pub(crate) fn set_format(&mut self, format: FormatRef) {
        self.origin = Some(format.header.server_id);
        self.format = Some(format.clone());
        let in_its_file = self.at.is_some();
        if let Some(last) = self
            .pieces
            .last_mut()
            .filter(|last| in_its_file && (last.from == last.to || last.format.is_none()))
        {
            last.format = Some(format);
            last.origin = self.origin;
        }
    }

    /// An event of the primary at the place reached; true if a transaction ended with it.
    pub(crate) fn add(
        &mut self,
        event: &RawEvent<'_>,
        checksum: ChecksumAlgorithm,
        source: usize,
        rotate_to: Option<BinlogPosition>,
    ) -> bool {
        // What almost every event is: one more of the last piece.
        if self.flowing
            && rotate_to.is_none()
            && let (Some(at), Some(piece)) = (&mut self.at, self.pieces.last_mut())
            && piece.continues(event, checksum, source)
        {
            let ended = piece.grow(event, at.offset);
            at.offset = piece.to;
            return ended;
        }
        self.add_slowly(event, checksum, source, rotate_to)
    }

    /// An event that may begin a piece, or lead to another file.
    fn add_slowly(
        &mut self,
        event: &RawEvent<'_>,
        checksum: ChecksumAlgorithm,
        source: usize,
        rotate_to: Option<BinlogPosition>,
    ) -> bool {
        let Some(at) = self.at.clone() else {
            return false;
        };
        self.checksum = checksum;
        let skipped = std::mem::take(&mut self.skipped);
        let continues = self.pieces.last().is_some_and(|last| {
            last.continues(event, checksum, source)
                && last.file == at.file
                && (last.to == at.offset || (skipped && last.to < at.offset))
        });
        if !continues {
            let tracker = self.tracker();
            let join = if skipped {
                Join::Unstored
            } else {
                Join::Contiguous
            };
            self.push(at.clone(), join, source, event.offset, tracker);
        }
        let Some(piece) = self.pieces.last_mut() else {
            return false;
        };
        let ended = piece.grow(event, at.offset);
        piece.rotate_to = rotate_to.clone();
        self.flowing = rotate_to.is_none();
        if rotate_to.is_some() {
            // What the next file's is has to be said: part of that file may be missing, its description with it.
            self.format = None;
        }
        self.at = Some(rotate_to.unwrap_or_else(|| BinlogPosition::new(at.file, piece.to)));
        ended
    }

    pub(crate) fn finish(self, sources: Vec<PathBuf>, end: LogEnd, walked_bytes: u64) -> Map {
        Map {
            pieces: self.pieces,
            sources,
            end,
            walked_bytes,
        }
    }
}
