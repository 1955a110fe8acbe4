//! Where each part of the primary's stream is in the files of a provider.
//!
//! A map is a list of pieces in stream order. A piece is a run of bytes in one file that holds consecutive events of one
//! primary file, every one of them verified; how it joins the piece before it is part of it. All questions (what is held,
//! where is a position, what to copy) are answered from the map, and an answer that needs single events walks from the
//! nearest mark, at most a few MiB away. Memory is bounded: marks thin out as a piece grows.

use std::path::{Path, PathBuf};

use crate::checksum::ChecksumAlgorithm;
use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::{EventHeader, EventType};
use crate::extent::{EventDigest, TransactionRef};
use crate::position::{BinlogFileName, BinlogPosition, StreamRange};
use crate::reader::{EventReader, FileEnd, RawEvent, Step};
use crate::transaction::{Tracker, is_bookkeeping};

/// Marks per piece before they thin out.
const MARKS_MAX: usize = 1024;
/// Bytes between marks at first.
const MARK_STRIDE: u64 = 1 << 20;

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
    fn identity(&self) -> (u32, u32) {
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
    stride: u64,
    /// Transactions after the last event.
    pub(crate) after: Tracker,
    /// The last transaction that ends in this piece.
    pub(crate) last_whole: Option<TransactionRef>,
    /// The last event is the primary's Rotate to there.
    pub(crate) rotate_to: Option<BinlogPosition>,
    /// It holds an event that is no bookkeeping.
    pub(crate) has_data: bool,
}

impl Piece {
    /// Start of an event, when the one before it ended at `expected`.
    fn start_of(&self, header: &EventHeader, expected: u64) -> Option<u64> {
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

    fn grow(&mut self, event: &RawEvent<'_>, start: u64, rotate_to: Option<BinlogPosition>) {
        self.sparse |= start != self.to;
        if start.saturating_sub(self.marks.last().map_or(0, |mark| mark.offset)) >= self.stride {
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
        }
        let ended = self.after.feed(event, start);
        self.to = start + u64::from(event.header.event_size);
        self.end_at = event.end();
        self.rotate_to = rotate_to;
        self.has_data |= !is_bookkeeping(event.type_code());
        if let Some(ended) = ended {
            self.last_whole = Some(TransactionRef {
                end: BinlogPosition::new(self.file.clone(), self.to),
                gtid: ended.gtid.map(|gtid| gtid.to_string()),
                xid: ended.xid,
            });
        }
    }

    /// The part before `offset`, a boundary of which `tracker` and `last_whole` hold.
    pub(crate) fn truncated(
        mut self,
        offset: u64,
        end_at: u64,
        after: Tracker,
        last_whole: Option<TransactionRef>,
    ) -> Self {
        self.marks.retain(|mark| mark.offset <= offset);
        self.to = offset;
        self.end_at = end_at;
        self.after = after;
        self.last_whole = last_whole;
        self.rotate_to = None;
        self
    }
}

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
        }
    }

    pub(crate) fn at(&self) -> Option<&BinlogPosition> {
        self.at.as_ref()
    }

    pub(crate) fn last(&self) -> Option<&Piece> {
        self.pieces.last()
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

    /// The next event stands at `offset` of the same file; in between are only events that the provider does not store.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        if let Some(at) = &mut self.at {
            at.offset = offset;
            self.skipped = true;
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
            after,
            last_whole: None,
            rotate_to: None,
            has_data: false,
        });
    }

    /// The primary's format description of the current file.
    pub(crate) fn set_format(&mut self, format: FormatRef) {
        self.origin = Some(format.header.server_id);
        self.format = Some(format.clone());
        if let Some(last) = self
            .pieces
            .last_mut()
            .filter(|last| last.from == last.to || last.format.is_none())
        {
            last.format = Some(format);
            last.origin = self.origin;
        }
    }

    /// An event of the primary at the place reached.
    pub(crate) fn add(
        &mut self,
        event: &RawEvent<'_>,
        checksum: ChecksumAlgorithm,
        source: usize,
        rotate_to: Option<BinlogPosition>,
    ) {
        let Some(at) = self.at.clone() else { return };
        self.checksum = checksum;
        let skipped = std::mem::take(&mut self.skipped);
        let continues = self.pieces.last().is_some_and(|last| {
            last.source == source
                && last.end_at == event.offset
                && last.checksum == checksum
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
        if let Some(piece) = self.pieces.last_mut() {
            piece.grow(event, at.offset, rotate_to.clone());
            self.at = Some(rotate_to.unwrap_or_else(|| BinlogPosition::new(at.file, piece.to)));
        }
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

/// The whole map.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) sources: Vec<PathBuf>,
    pub(crate) end: LogEnd,
    pub(crate) walked_bytes: u64,
}

/// A place between two events: the next one, if there is one, is the first of `pieces[piece]` at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) piece: usize,
    pub(crate) offset: u64,
}

/// What a visitor of events wants.
pub(crate) enum Next {
    Go,
    Stop,
}

impl Map {
    pub(crate) fn source(&self, index: usize) -> &Path {
        self.sources
            .get(index)
            .map_or(Path::new(""), PathBuf::as_path)
    }

    /// Drops pieces that are not trustworthy any more and keeps the rest in stream order. What is newer wins: where a
    /// receiver started again further back, older pieces count only up to there. Pieces of another primary, or of a file
    /// of the same name that was made at another time (RESET), end what is believed.
    pub(crate) fn keep_current(&mut self) -> Result<(), LogError> {
        let mut runs: Vec<Vec<Piece>> = Vec::new();
        for piece in self.pieces.drain(..) {
            match runs.last_mut() {
                Some(run) if piece.join != Join::Broken => run.push(piece),
                _ => runs.push(vec![piece]),
            }
        }
        let mut identities = std::collections::HashMap::new();
        let mut origin = None;
        let mut floor: Option<BinlogPosition> = None;
        let mut kept: Vec<Vec<Piece>> = Vec::new();
        let mut heads: Vec<Vec<Piece>> = Vec::new();
        for run in runs.into_iter().rev() {
            let stale = run.iter().any(|piece| {
                let other_origin = matches!((origin, piece.origin), (Some(a), Some(b)) if a != b);
                let other_file = piece.format.as_ref().is_some_and(|f| {
                    identities
                        .get(&piece.file)
                        .is_some_and(|&id| id != f.identity())
                });
                other_origin || other_file
            });
            if stale {
                break;
            }
            for piece in &run {
                origin = origin.or(piece.origin);
                if let Some(format) = &piece.format {
                    identities.insert(piece.file.clone(), format.identity());
                }
            }
            if !run.iter().any(|piece| piece.has_data) {
                heads.push(run);
                continue;
            }
            let run = match &floor {
                Some(floor) => self.cut_run(run, floor)?,
                None => run,
            };
            let Some(first) = run.first() else { continue };
            floor = Some(first.start());
            kept.push(run);
        }
        // A place without data counts only where nothing else is held.
        for head in heads {
            let (Some(first), Some(last)) = (head.first(), head.last()) else {
                continue;
            };
            let (start, end) = (first.start(), last.end());
            let covered = kept.iter().any(|run| match (run.first(), run.last()) {
                (Some(f), Some(l)) => f.start() <= end && start <= l.end(),
                _ => false,
            });
            if !covered {
                kept.push(head);
            } else if let Some(run) = kept
                .iter_mut()
                .find(|run| run.last().is_some_and(|l| l.end() == start))
            {
                // It continues what is held: the reader of this log stands there.
                run.extend(head.into_iter().enumerate().map(|(i, mut piece)| {
                    if i == 0 {
                        piece.join = Join::Contiguous;
                    }
                    piece
                }));
            }
        }
        kept.sort_by_key(|run| run.first().map(Piece::start));
        let mut pieces: Vec<Piece> = Vec::new();
        for run in kept {
            for (i, mut piece) in run.into_iter().enumerate() {
                if i == 0 {
                    piece.join = match pieces.last() {
                        Some(last) if last.end() == piece.start() && last.rotate_to.is_some() => {
                            Join::NextFile
                        }
                        Some(last) if last.end() == piece.start() => Join::Contiguous,
                        _ => Join::Broken,
                    };
                }
                pieces.push(piece);
            }
        }
        self.pieces = pieces;
        // A Rotate that nothing describes is of no use to anyone.
        while self.pieces.first().is_some_and(|first| {
            !first.has_data && first.to > first.from && self.format_of(0, &first.file).is_none()
        }) {
            self.pieces.remove(0);
            if let Some(first) = self.pieces.first_mut() {
                first.join = Join::Broken;
            }
        }
        Ok(())
    }

    /// The part of a run before `floor`; nothing if that is inside an event.
    fn cut_run(&self, run: Vec<Piece>, floor: &BinlogPosition) -> Result<Vec<Piece>, LogError> {
        let mut out = Vec::new();
        for piece in run {
            if piece.end() <= *floor {
                out.push(piece);
                continue;
            }
            if piece.start() < *floor && piece.file == floor.file {
                match self.state_at(&piece, floor.offset)? {
                    Some((after, last_whole)) => {
                        let end_at = self.physical(&piece, floor.offset)?;
                        out.push(piece.truncated(floor.offset, end_at, after, last_whole));
                    }
                    None => return Ok(Vec::new()),
                }
            }
            break;
        }
        Ok(out)
    }

    /// What is known of transactions at a boundary inside a piece; `None` if it is none.
    fn state_at(
        &self,
        piece: &Piece,
        offset: u64,
    ) -> Result<Option<(Tracker, Option<TransactionRef>)>, LogError> {
        let Some(first) = piece.marks.first() else {
            return Ok(None);
        };
        let mut tracker = first.tracker.clone();
        let mut last_whole = None;
        let mut boundary = true;
        self.walk_piece(piece, piece.from, &mut |event, start| {
            if start >= offset {
                return Ok(Next::Stop);
            }
            if let Some(ended) = tracker.feed(event, start) {
                last_whole = Some(TransactionRef {
                    end: BinlogPosition::new(
                        piece.file.clone(),
                        start + u64::from(event.header.event_size),
                    ),
                    gtid: ended.gtid.map(|gtid| gtid.to_string()),
                    xid: ended.xid,
                });
            }
            boundary = start + u64::from(event.header.event_size) <= offset;
            Ok(Next::Go)
        })?;
        Ok(boundary.then_some((tracker, last_whole)))
    }

    /// Visits the events of a piece that start at `from` or behind it, each verified again: the file may have changed.
    pub(crate) fn walk_piece(
        &self,
        piece: &Piece,
        from: u64,
        visit: &mut dyn FnMut(&RawEvent<'_>, u64) -> Result<Next, LogError>,
    ) -> Result<(), LogError> {
        if from >= piece.to {
            return Ok(());
        }
        let (mut reader, mut expected) = self.reader(piece, from)?;
        while reader.offset() < piece.end_at {
            let (event, start) =
                next_event(&mut reader, piece, expected, self.source(piece.source))?;
            expected = start + u64::from(event.header.event_size);
            if start < from {
                continue;
            }
            if let Next::Stop = visit(&event, start)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A reader at the last event that is known to start at or before `from`, and where that event starts.
    fn reader(&self, piece: &Piece, from: u64) -> Result<(EventReader, u64), LogError> {
        let (start, at) = if piece.sparse {
            piece
                .mark_before(from)
                .map_or((piece.from, piece.at), |mark| (mark.offset, mark.at))
        } else {
            (from, piece.at + from.saturating_sub(piece.from))
        };
        let mut reader = EventReader::open(self.source(piece.source))?;
        reader.seek(at, piece.checksum);
        Ok((reader, start))
    }

    /// Offset in the provider's file of a boundary in a piece: where the event before it ends.
    pub(crate) fn physical(&self, piece: &Piece, offset: u64) -> Result<u64, LogError> {
        if offset >= piece.to {
            return Ok(piece.end_at);
        }
        if !piece.sparse {
            return Ok(piece.at + offset.saturating_sub(piece.from));
        }
        let mut at = piece.end_at;
        self.walk_piece(piece, offset, &mut |event, _| {
            at = event.offset;
            Ok(Next::Stop)
        })?;
        Ok(at)
    }

    /// Visits the events from a place on, to the end of what is contiguous with it or until the visitor stops.
    pub(crate) fn walk(
        &self,
        place: Place,
        visit: &mut dyn FnMut(&Piece, &RawEvent<'_>, u64) -> Result<Next, LogError>,
    ) -> Result<(), LogError> {
        let mut stopped = false;
        for (i, piece) in self.pieces.iter().enumerate().skip(place.piece) {
            if stopped || (i > place.piece && piece.join == Join::Broken) {
                break;
            }
            let from = if i == place.piece {
                place.offset
            } else {
                piece.from
            };
            self.walk_piece(piece, from, &mut |event, start| {
                let next = visit(piece, event, start)?;
                stopped = matches!(next, Next::Stop);
                Ok(next)
            })?;
        }
        Ok(())
    }

    /// The format description of the primary's `file` in force at a piece.
    ///
    /// When the primary's Rotate comes, a receiver opens a new relay log without repeating the format description. If that
    /// is the oldest one kept, the Rotate alone is held of its file: the next file's description, of the same server and
    /// with the same setting, describes it as well.
    pub(crate) fn format_of(&self, piece: usize, file: &BinlogFileName) -> Option<FormatRef> {
        let before = self.pieces.iter().take(piece + 1).rev();
        let after = self.pieces.iter().skip(piece + 1);
        let events = self.pieces.get(piece).filter(|piece| piece.file == *file);
        // Events without checksums under a description that announces them, or the other way round, would be misread.
        let fits =
            |format: &FormatRef| events.is_none_or(|events| events.checksum == format.checksum);
        let own = before
            .chain(after)
            .filter(|piece| piece.file == *file)
            .find_map(|piece| piece.format.clone());
        let borrowed = || {
            let events = events.filter(|events| !events.has_data && events.rotate_to.is_some())?;
            let next = self
                .pieces
                .get(piece + 1)
                .filter(|next| next.join == Join::NextFile && next.origin == events.origin);
            next.and_then(|next| next.format.clone())
        };
        own.or_else(borrowed).filter(fits)
    }

    /// Contiguous ranges, ascending.
    pub(crate) fn ranges(&self) -> Vec<StreamRange> {
        let mut ranges: Vec<StreamRange> = Vec::new();
        for piece in &self.pieces {
            match ranges.last_mut() {
                Some(range) if piece.join != Join::Broken => range.to = piece.end(),
                _ => ranges.push(StreamRange::new(piece.start(), piece.end())),
            }
        }
        ranges
    }

    /// End of the last event held.
    pub(crate) fn data_end(&self) -> Option<BinlogPosition> {
        self.pieces.last().map(Piece::end)
    }

    /// The last whole transaction.
    pub(crate) fn last_transaction(&self) -> Option<&TransactionRef> {
        self.pieces
            .iter()
            .rev()
            .find_map(|piece| piece.last_whole.as_ref())
    }

    /// Start of the transaction in which the map ends.
    pub(crate) fn open_since(&self) -> Option<BinlogPosition> {
        let last = self.pieces.last()?;
        last.after
            .open_since()
            .map(|start| BinlogPosition::new(last.file.clone(), start))
    }

    /// The place of `position`.
    pub(crate) fn find(&self, position: &BinlogPosition) -> Result<Place, LogError> {
        let next_of = |i: usize| {
            self.pieces
                .get(i + 1)
                .filter(|next| next.join != Join::Broken)
                .map(|next| Place {
                    piece: i + 1,
                    offset: next.from,
                })
        };
        for (i, piece) in self.pieces.iter().enumerate() {
            let next = next_of(i);
            if piece.file == position.file && (piece.from..=piece.to).contains(&position.offset) {
                self.check_boundary(piece, position)?;
                if position.offset < piece.to {
                    return Ok(Place {
                        piece: i,
                        offset: position.offset,
                    });
                }
                return Ok(self.skip_empty(next.unwrap_or(Place {
                    piece: i,
                    offset: piece.to,
                })));
            }
            // Inside what the provider does not store: no event of it begins there, the next one is served.
            let following = self
                .pieces
                .get(i + 1)
                .filter(|following| following.join == Join::Unstored);
            if let (Some(following), Some(place)) = (following, next)
                && piece.end() <= *position
                && *position <= following.start()
            {
                return Ok(self.skip_empty(place));
            }
            if piece.end() == *position {
                return Ok(self.skip_empty(next.unwrap_or(Place {
                    piece: i,
                    offset: piece.to,
                })));
            }
        }
        Err(LogError::NotHeld {
            position: position.clone(),
            held: self.ranges(),
        })
    }

    fn skip_empty(&self, place: Place) -> Place {
        let mut place = place;
        while let (Some(piece), Some(next)) = (
            self.pieces.get(place.piece),
            self.pieces.get(place.piece + 1),
        ) {
            if place.offset < piece.to || next.join == Join::Broken {
                break;
            }
            place = Place {
                piece: place.piece + 1,
                offset: next.from,
            };
        }
        place
    }

    fn check_boundary(&self, piece: &Piece, position: &BinlogPosition) -> Result<(), LogError> {
        let offset = position.offset;
        if offset == piece.from || offset == piece.to {
            return Ok(());
        }
        let from = piece
            .mark_before(offset)
            .map_or(piece.from, |mark| mark.offset);
        let mut around = None;
        self.walk_piece(piece, from, &mut |event, start| {
            let end = start + u64::from(event.header.event_size);
            if start >= offset || end == offset {
                return Ok(Next::Stop);
            }
            if end > offset {
                around = Some((start, end));
                return Ok(Next::Stop);
            }
            Ok(Next::Go)
        })?;
        match around {
            None => Ok(()),
            Some((before, after)) => Err(LogError::NotABoundary {
                position: position.clone(),
                before: BinlogPosition::new(piece.file.clone(), before),
                after: BinlogPosition::new(piece.file.clone(), after),
            }),
        }
    }

    /// Nothing of the stream follows a place.
    pub(crate) fn at_end(&self, place: Place) -> bool {
        self.pieces
            .iter()
            .enumerate()
            .skip(place.piece)
            .all(|(i, piece)| {
                let from = if i == place.piece {
                    place.offset
                } else {
                    piece.from
                };
                from >= piece.to
            })
    }

    /// Transactions at a place.
    pub(crate) fn tracker_at(&self, place: Place) -> Result<Tracker, LogError> {
        let Some(piece) = self.pieces.get(place.piece) else {
            return Ok(Tracker::unknown());
        };
        if place.offset >= piece.to {
            return Ok(piece.after.clone());
        }
        let Some(mark) = piece.mark_before(place.offset) else {
            return Ok(Tracker::unknown());
        };
        let mut tracker = mark.tracker.clone();
        self.walk_piece(piece, mark.offset, &mut |event, start| {
            if start >= place.offset {
                return Ok(Next::Stop);
            }
            tracker.feed(event, start);
            Ok(Next::Go)
        })?;
        Ok(tracker)
    }

    /// The last event of the same primary file that ends at or before a position, bookkeeping not counted.
    pub(crate) fn event_before(
        &self,
        before: &BinlogPosition,
    ) -> Result<Option<EventDigest>, LogError> {
        for piece in self
            .pieces
            .iter()
            .rev()
            .filter(|piece| piece.file == before.file && piece.from < before.offset)
        {
            let limit = before.offset.min(piece.to);
            for mark in piece.marks.iter().rev().filter(|mark| mark.offset < limit) {
                let mut found = None;
                self.walk_piece(piece, mark.offset, &mut |event, start| {
                    let end = start + u64::from(event.header.event_size);
                    if end > limit {
                        return Ok(Next::Stop);
                    }
                    if !is_bookkeeping(event.type_code()) {
                        found = Some((start, end, event.header, event.offset, event.checksum));
                    }
                    Ok(Next::Go)
                })?;
                if let Some((start, end, header, offset, checksum)) = found {
                    let len = u64::from(header.event_size.saturating_sub(checksum.len()));
                    return Ok(Some(EventDigest {
                        start: BinlogPosition::new(piece.file.clone(), start),
                        end: BinlogPosition::new(piece.file.clone(), end),
                        type_code: header.type_code.0,
                        sha256: digest(self.source(piece.source), offset, len)?,
                    }));
                }
            }
        }
        Ok(None)
    }
}

fn digest(path: &Path, offset: u64, len: u64) -> Result<[u8; 32], LogError> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    crate::segment::read_range(path, offset, len, &mut |block| {
        hasher.update(block);
        Ok(())
    })?;
    Ok(hasher.finalize().into())
}

/// The next event of a piece and where it starts, when the one before it ended at `expected`.
pub(crate) fn next_event<'a>(
    reader: &'a mut EventReader,
    piece: &Piece,
    expected: u64,
    path: &Path,
) -> Result<(RawEvent<'a>, u64), LogError> {
    let offset = reader.offset();
    let event = match reader.step()? {
        Step::Event(event) => event,
        Step::End(end) => return Err(changed(path, offset, &end)),
    };
    match piece
        .start_of(&event.header, expected)
        .filter(|_| event.end() <= piece.end_at)
    {
        Some(start) => Ok((event, start)),
        None => Err(LogError::Corrupt {
            path: path.to_owned(),
            offset,
            expected: format!(
                "the event at {}:{expected} as it was a moment ago",
                piece.file
            ),
            found: format!("log_pos {}", event.header.log_pos),
        }),
    }
}

/// Where an event starts that stands at or behind `expected`: less than 4 GiB away.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn start_behind(header: &EventHeader, expected: u64) -> u64 {
    expected
        + u64::from(
            header
                .log_pos
                .wrapping_sub(header.event_size)
                .wrapping_sub(expected as u32),
        )
}

/// `log_pos` is the end of the event modulo 2^32.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn ends_at(header: &EventHeader, end: u64) -> bool {
    header.log_pos == end as u32
}

/// A file that was verified a moment ago reads differently now.
fn changed(path: &Path, offset: u64, end: &FileEnd) -> LogError {
    let (expected, found) = match end {
        FileEnd::Boundary => ("an event".to_owned(), "the end of the file".to_owned()),
        FileEnd::Torn { detail, .. } => ("a whole event".to_owned(), detail.clone()),
        FileEnd::Corrupt {
            expected, found, ..
        } => (expected.clone(), found.clone()),
    };
    LogError::Corrupt {
        path: path.to_owned(),
        offset,
        expected,
        found,
    }
}
