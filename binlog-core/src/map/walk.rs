//! Walks pieces again, event by event: everything was verified when the map was made, and is verified again, since a file
//! may have changed.

use std::path::Path;

use crate::error::LogError;
use crate::event::EventHeader;
use crate::reader::{EventReader, FileEnd, RawEvent, Step};

use super::piece::{Join, Piece};
use super::{Map, Next, Place};

impl Map {
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
        reader.seek_to(at, piece.checksum, start);
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
