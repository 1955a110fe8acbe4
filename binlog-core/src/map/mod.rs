//! Where each part of the primary's stream is in the files of a provider.
//!
//! A map is a list of pieces in stream order. A piece is a run of bytes in one file that holds consecutive events of one
//! primary file, every one of them verified; how it joins the piece before it is part of it. All questions (what is held,
//! where is a position, what to copy) are answered from the map, and an answer that needs single events walks from the
//! nearest mark, at most a few MiB away. Memory is bounded: marks thin out as a piece grows.
//!
//! A map is made from millions of events a second, so one that goes on where the last one ended only moves numbers: no
//! name is compared, no position copied, no GTID turned into text. All of that is done where a piece begins, or when asked.
mod builder;
mod current;
mod piece;
mod walk;

use std::path::{Path, PathBuf};

use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::FIRST_EVENT;
use crate::extent::{EventDigest, TransactionRef};
use crate::position::{BinlogFileName, BinlogPosition, StreamRange};
use crate::transaction::{Tracker, is_bookkeeping};

pub(crate) use builder::MapBuilder;
pub(crate) use piece::{FormatRef, Join, Piece};
pub(crate) use walk::{ends_at, next_event, start_behind};

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
            let Some(events) = events else {
                // Behind the Rotate: the piece is that of the next file already.
                let next = self.pieces.get(piece).filter(|next| {
                    next.join == Join::NextFile
                        && next.from == FIRST_EVENT
                        && next.file == file.next()
                });
                return next.and_then(|next| next.format.clone());
            };
            let events = Some(events).filter(|e| !e.has_data && e.rotate_to.is_some())?;
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
    pub(crate) fn last_transaction(&self) -> Option<TransactionRef> {
        self.pieces.iter().rev().find_map(Piece::last_whole)
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
        // The piece that ends at the position or goes beyond it, then what is contiguous with it: an event on the other side
        // of a hole is not the last one before the position.
        let held = |i: usize, piece: &Piece| {
            let unstored = self
                .pieces
                .get(i + 1)
                .filter(|next| next.join == Join::Unstored && next.file == piece.file);
            let to = unstored.map_or(piece.to, |next| next.from);
            piece.file == before.file && piece.from < before.offset && before.offset <= to
        };
        let Some(index) = self
            .pieces
            .iter()
            .enumerate()
            .position(|(i, piece)| held(i, piece))
        else {
            return Ok(None);
        };
        let mut broken = false;
        for piece in self.pieces.iter().take(index + 1).rev() {
            if broken || piece.file != before.file {
                break;
            }
            broken = piece.join == Join::Broken;
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
