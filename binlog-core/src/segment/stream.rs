//! The events of a chain, one after the other, as a source would send them. Memory is constant: an event over 1 MiB is
//! handed out as blocks to be read.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::copying::made_up_rotate;
use super::format_description::{FormatDescriptionPatch, patch_format_description};
use crate::checksum::ChecksumAlgorithm;
use crate::error::LogError;
use crate::event::{EventHeader, EventType, FIRST_EVENT, FLAG_ARTIFICIAL};
use crate::map::{FormatRef, Join, Map, Place, next_event};
use crate::position::{BinlogFileName, BinlogPosition};
use crate::reader::EventReader;

/// One event of a chain.
#[derive(Debug)]
pub struct StreamedEvent {
    /// Where it starts in the primary's stream: the end of the one before, or behind events that the provider of the
    /// segment does not store. A format description sent because the stream starts beyond 4, and a
    /// made-up Rotate, take no place: see [`Self::takes_place`].
    pub position_before: BinlogPosition,
    /// Where the stream is after it; after a Rotate that is the next file at 4.
    pub position_after: BinlogPosition,
    /// Its header.
    pub header: EventHeader,
    /// It ends with a CRC-32.
    pub checksum: bool,
    /// It stands in the primary's file between the two positions. False for a format description before a start beyond 4
    /// and for a made-up Rotate.
    pub takes_place: bool,
    /// All its bytes, header and checksum included, as stored in the primary (format descriptions: the original one with
    /// its `created`, in-use flag cleared).
    pub bytes: EventBytes,
}

/// Bytes of an event.
#[derive(Debug)]
pub enum EventBytes {
    /// Up to 1 MiB: all of it.
    Inline(Vec<u8>),
    /// More: read in pieces.
    Blocks(EventBlocks),
}

impl EventBytes {
    /// Size of the whole event in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blocks(blocks) => blocks.len(),
        }
    }

    /// True if there are no bytes; never for an event of a chain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes of a large event, read in pieces.
#[derive(Debug)]
pub struct EventBlocks {
    file: Arc<File>,
    path: PathBuf,
    next: u64,
    end: u64,
    len: u64,
}

impl EventBlocks {
    /// Size of the whole event in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next >= self.end
    }

    /// Fills the start of `buf` with the next bytes and returns their number; 0 at the end. Fewer than asked for only at
    /// the end.
    ///
    /// # Errors
    /// I/O.
    pub fn read_block(&mut self, buf: &mut [u8]) -> Result<usize, LogError> {
        let left = usize::try_from(self.end.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let Some(target) = buf.get_mut(..want) else {
            return Ok(0);
        };
        self.file
            .read_exact_at(target, self.next)
            .map_err(LogError::io("read", &self.path))?;
        self.next += want as u64;
        Ok(want)
    }
}

/// Iterator over the events of a chain, to the end of its range.
#[derive(Debug)]
pub struct ChainEvents {
    map: Arc<Map>,
    originals: Arc<Vec<Vec<u8>>>,
    place: Place,
    reader: Option<EventReader>,
    /// Where the stream is.
    at: BinlogPosition,
    /// Setting of the file reached.
    checksum: ChecksumAlgorithm,
    origin: u32,
    /// The file's format description is still to be sent.
    format_due: bool,
    failed: bool,
}

impl ChainEvents {
    pub(super) fn new(
        map: Arc<Map>,
        originals: Arc<Vec<Vec<u8>>>,
        from: &BinlogPosition,
    ) -> Result<Self, LogError> {
        let place = map.find(from)?;
        let origin = map
            .pieces
            .iter()
            .find_map(|piece| piece.origin)
            .unwrap_or_default();
        Ok(Self {
            map,
            originals,
            place,
            reader: None,
            at: from.clone(),
            checksum: ChecksumAlgorithm::None,
            origin,
            format_due: true,
            failed: false,
        })
    }

    /// Where the stream is: the end of the last item.
    #[must_use]
    pub fn position(&self) -> &BinlogPosition {
        &self.at
    }

    fn advance(&mut self) -> Result<Option<StreamedEvent>, LogError> {
        let map = Arc::clone(&self.map);
        loop {
            let Some(piece) = map.pieces.get(self.place.piece) else {
                return Ok(None);
            };
            let exhausted = self.place.offset >= piece.to;
            if exhausted && self.next_piece(&map) {
                continue;
            }
            if piece.file != self.at.file && (!exhausted || piece.start() > self.at) {
                return self.change_file(&map, &piece.file);
            }
            // One who starts at the end is told the format description as well.
            let due = self.format_due
                && piece.file == self.at.file
                && (exhausted || self.place.offset != FIRST_EVENT);
            if due && let Some(event) = self.format(&map)? {
                return Ok(Some(event));
            }
            return if exhausted {
                Ok(None)
            } else {
                self.event(&map).map(Some)
            };
        }
    }

    fn next_piece(&mut self, map: &Map) -> bool {
        match map.pieces.get(self.place.piece + 1) {
            Some(next) if next.join != Join::Broken => {
                self.place = Place {
                    piece: self.place.piece + 1,
                    offset: next.from,
                };
                self.reader = None;
                if next.file == self.at.file && next.from > self.at.offset {
                    // Events that the provider does not store.
                    self.at.offset = next.from;
                }
                true
            }
            _ => false,
        }
    }

    /// The stream goes on in another file: the Rotate to it, made up where it is not held.
    fn change_file(
        &mut self,
        map: &Map,
        file: &BinlogFileName,
    ) -> Result<Option<StreamedEvent>, LogError> {
        // Whoever starts at the end of a file needs its format description first.
        if self.format_due
            && let Some(event) = self.format(map)?
        {
            return Ok(Some(event));
        }
        let bytes = made_up_rotate(file, self.origin, self.checksum);
        let header = parsed(&bytes);
        let before =
            std::mem::replace(&mut self.at, BinlogPosition::new(file.clone(), FIRST_EVENT));
        self.format_due = true;
        let checksum = self.checksum == ChecksumAlgorithm::Crc32;
        Ok(header.map(|header| StreamedEvent {
            position_before: before,
            position_after: self.at.clone(),
            header,
            checksum,
            takes_place: false,
            bytes: EventBytes::Inline(bytes),
        }))
    }

    /// The format description of the file reached, out of place.
    fn format(&mut self, map: &Map) -> Result<Option<StreamedEvent>, LogError> {
        self.format_due = false;
        let found = map
            .pieces
            .iter()
            .take(self.place.piece + 1)
            .rev()
            .chain(map.pieces.iter().skip(self.place.piece + 1))
            .filter(|piece| piece.file == self.at.file)
            .find_map(|piece| piece.format.clone());
        let Some(format) = found else { return Ok(None) };
        let bytes = self.original(map, &format)?;
        self.checksum = format.checksum;
        Ok(parsed(&bytes).map(|header| StreamedEvent {
            position_before: self.at.clone(),
            position_after: self.at.clone(),
            header,
            checksum: crate::event::FormatDescription::parse(&bytes)
                .is_some_and(|d| d.has_checksum_field),
            takes_place: false,
            bytes: EventBytes::Inline(bytes),
        }))
    }

    /// A format description as the primary has it: at the head of a segment `created` was zeroed, the manifest has it.
    fn original(&self, map: &Map, format: &FormatRef) -> Result<Vec<u8>, LogError> {
        let stored = self
            .originals
            .get(format.source)
            .filter(|raw| format.offset == FIRST_EVENT && !raw.is_empty());
        let raw = match stored {
            Some(raw) => raw.clone(),
            None => {
                let mut raw = Vec::new();
                super::read_range(
                    map.source(format.source),
                    format.offset,
                    u64::from(format.header.event_size),
                    &mut |block| {
                        raw.extend_from_slice(block);
                        Ok(())
                    },
                )?;
                raw
            }
        };
        Ok(patch_format_description(
            &raw,
            FormatDescriptionPatch::default(),
        ))
    }

    fn event(&mut self, map: &Map) -> Result<StreamedEvent, LogError> {
        let Some(piece) = map.pieces.get(self.place.piece) else {
            return Err(LogError::NotHeld {
                position: self.at.clone(),
                held: map.ranges(),
            });
        };
        let path = map.source(piece.source);
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let mut reader = EventReader::open(path)?;
                let at = map.physical(piece, self.place.offset)?;
                reader.seek_to(at, piece.checksum, self.place.offset);
                none.insert(reader)
            }
        };
        let file = reader.file();
        let (event, start) = next_event(reader, piece, self.place.offset, path)?;
        let header = event.header;
        let end = start + u64::from(header.event_size);
        let bytes = if event.is_whole() {
            EventBytes::Inline(event.bytes.to_vec())
        } else {
            let len = u64::from(header.event_size);
            EventBytes::Blocks(EventBlocks {
                file,
                path: path.to_owned(),
                next: event.offset,
                end: event.offset + len,
                len,
            })
        };
        let checksum = event.checksum == ChecksumAlgorithm::Crc32;
        if header.type_code == EventType::FORMAT_DESCRIPTION {
            self.format_due = false;
            self.checksum = piece.checksum;
        }
        let before = BinlogPosition::new(piece.file.clone(), start);
        self.place.offset = end;
        let after = match &piece.rotate_to {
            Some(to) if end == piece.to => to.clone(),
            _ => BinlogPosition::new(piece.file.clone(), end),
        };
        if after.file != self.at.file {
            self.format_due = true;
        }
        self.at = after.clone();
        Ok(StreamedEvent {
            position_before: before,
            position_after: after,
            header,
            checksum,
            takes_place: true,
            bytes,
        })
    }
}

fn parsed(bytes: &[u8]) -> Option<EventHeader> {
    EventHeader::parse(bytes)
}

impl Iterator for ChainEvents {
    type Item = Result<StreamedEvent, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

impl StreamedEvent {
    /// Made for the reader, not by the primary.
    #[must_use]
    pub fn is_made_up(&self) -> bool {
        !self.takes_place && self.header.has_flag(FLAG_ARTIFICIAL)
    }
}
