//! An event stream in memory that can grow, fail, and deliver large events in blocks.

use std::sync::{Arc, Mutex};

use binlog_core::checksum::crc32;
use binlog_core::{BinlogPosition, EventType, MariaDbGtidPos, StreamRange};
use tokio::sync::watch;

use crate::source::feed::{
    BlockReader, EventFeed, FeedBytes, FeedError, FeedEvent, FeedItem, FeedReader, Growth,
};

/// One event of the stream, with the place it starts at.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) before: BinlogPosition,
    pub(super) after: BinlogPosition,
    pub(super) type_code: EventType,
    pub(super) checksum: bool,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct MemoryFeed {
    pub(super) events: Arc<Mutex<Vec<Stored>>>,
    end: Mutex<BinlogPosition>,
    pub(super) growth: watch::Sender<Growth>,
    /// Events over this size come in blocks.
    pub(super) inline_limit: usize,
    /// The reader fails after this many bytes of a large event.
    pub(super) break_large_at: Option<u64>,
    pub(super) gtid_pos: Option<(BinlogPosition, MariaDbGtidPos)>,
    /// Starts beyond 4 in its first file: that file's format description is not part of the range.
    pub(super) from: BinlogPosition,
}

/// Bytes of an event with a right header and, if asked for, checksum.
pub(super) fn event(type_code: EventType, log_pos: u64, body: &[u8], checksum: bool) -> Vec<u8> {
    let size = 19 + body.len() + if checksum { 4 } else { 0 };
    let mut out = 1_700_000_000u32.to_le_bytes().to_vec();
    out.push(type_code.0);
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&(size as u32).to_le_bytes());
    out.extend_from_slice(&(log_pos as u32).to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(body);
    if checksum {
        let crc = crc32(&out);
        out.extend_from_slice(&crc.to_le_bytes());
    }
    out
}

/// A format description of MySQL 5.6 with a `created` time and the in-use flag.
pub(super) fn format_description(checksum: bool) -> Vec<u8> {
    let mut body = 4u16.to_le_bytes().to_vec();
    let mut version = b"5.6.24-log".to_vec();
    version.resize(50, 0);
    body.extend_from_slice(&version);
    body.extend_from_slice(&1_700_000_000u32.to_le_bytes()); // created
    body.push(19);
    body.extend_from_slice(&[8; 35]); // post-header lengths
    body.push(u8::from(checksum));
    let mut out = event(EventType::FORMAT_DESCRIPTION, 0, &body, false);
    let size = out.len() as u32 + 4; // always has room for a checksum, used or not
    out[9..13].copy_from_slice(&size.to_le_bytes());
    out[13..17].copy_from_slice(&(4 + size).to_le_bytes());
    out[17] = 1; // in use
    // Computed with the in-use flag cleared, as servers do.
    let mut cleared = out.clone();
    cleared[17] = 0;
    out.extend_from_slice(&crc32(&cleared).to_le_bytes());
    out
}

impl MemoryFeed {
    /// An empty stream whose first file starts with its format description.
    pub(super) fn starting(file: &str, checksum: bool) -> Self {
        let from = BinlogPosition::new(file.parse().unwrap(), 4);
        let feed = Self {
            events: Arc::new(Mutex::new(Vec::new())),
            end: Mutex::new(from.clone()),
            growth: watch::Sender::new(Growth::Complete),
            inline_limit: 1 << 20,
            break_large_at: None,
            gtid_pos: None,
            from,
        };
        feed.begin_file(file, checksum);
        feed
    }

    pub(super) fn begin_file(&self, file: &str, checksum: bool) {
        let before = BinlogPosition::new(file.parse().unwrap(), 4);
        self.store(
            before,
            EventType::FORMAT_DESCRIPTION,
            checksum,
            format_description(checksum),
        );
    }

    /// Appends an event of this body; returns where the stream is then.
    pub(super) fn append(&self, type_code: EventType, body: &[u8]) -> BinlogPosition {
        let (before, checksum) = self.end();
        let size = 19 + body.len() as u64 + if checksum { 4 } else { 0 };
        let bytes = event(type_code, before.offset + size, body, checksum);
        self.store(before, type_code, checksum, bytes)
    }

    /// Leaves `bytes` out of the stream, as a relay log leaves out events of no effect.
    pub(super) fn skip(&self, bytes: u64) {
        self.end.lock().unwrap().offset += bytes;
    }

    /// Appends a Rotate to the next file and that file's format description.
    pub(super) fn rotate(&self, checksum: bool) {
        let next = self.end().0.file.next();
        let body = [&4u64.to_le_bytes()[..], next.as_str().as_bytes()].concat();
        self.append(EventType::ROTATE, &body);
        self.begin_file(next.as_str(), checksum);
    }

    pub(super) fn end(&self) -> (BinlogPosition, bool) {
        let end = self.end.lock().unwrap().clone();
        (end, self.events.lock().unwrap().last().unwrap().checksum)
    }

    pub(super) fn stored(&self) -> Vec<Stored> {
        self.events.lock().unwrap().clone()
    }

    fn store(
        &self,
        before: BinlogPosition,
        type_code: EventType,
        checksum: bool,
        bytes: Vec<u8>,
    ) -> BinlogPosition {
        let after = if type_code == EventType::ROTATE {
            BinlogPosition::new(before.file.next(), 4)
        } else {
            BinlogPosition::new(before.file.clone(), before.offset + bytes.len() as u64)
        };
        *self.end.lock().unwrap() = after.clone();
        self.events.lock().unwrap().push(Stored {
            before,
            after: after.clone(),
            type_code,
            checksum,
            bytes,
        });
        after
    }
}

impl EventFeed for MemoryFeed {
    fn range(&self) -> StreamRange {
        StreamRange::new(self.from.clone(), self.end().0)
    }

    fn open(&self, from: &BinlogPosition) -> Result<Box<dyn FeedReader>, FeedError> {
        let events = self.events.lock().unwrap();
        let next = events
            .iter()
            .position(|event| event.before >= *from)
            .unwrap_or(events.len());
        let boundary = events.get(next).is_some_and(|event| event.before == *from)
            || events.last().is_some_and(|event| event.after == *from);
        if !boundary {
            let held = Box::new(StreamRange::new(
                self.from.clone(),
                events.last().unwrap().after.clone(),
            ));
            return Err(FeedError::NotHeld {
                asked: from.clone(),
                held,
            });
        }
        let description = events
            .iter()
            .find(|event| {
                event.type_code == EventType::FORMAT_DESCRIPTION
                    && event.before.file == from.file
                    && from.offset > 4
            })
            .map(|event| Stored {
                before: from.clone(),
                after: from.clone(),
                ..event.clone()
            });
        Ok(Box::new(MemoryReader {
            description,
            events: Arc::clone(&self.events),
            next,
            inline_limit: self.inline_limit,
            break_large_at: self.break_large_at,
        }))
    }

    fn growth(&self) -> watch::Receiver<Growth> {
        self.growth.subscribe()
    }

    fn mariadb_gtid_pos_at(
        &self,
        at: &BinlogPosition,
    ) -> Result<Option<MariaDbGtidPos>, FeedError> {
        Ok(self
            .gtid_pos
            .as_ref()
            .filter(|(place, _)| place == at)
            .map(|(_, pos)| pos.clone()))
    }

    fn position_of_gtid_pos(
        &self,
        executed: &MariaDbGtidPos,
    ) -> Result<Option<BinlogPosition>, FeedError> {
        // The one position it knows, forwards and backwards.
        Ok(self
            .gtid_pos
            .as_ref()
            .filter(|(_, known)| known == executed)
            .map(|(at, _)| at.clone()))
    }
}

#[derive(Debug)]
struct MemoryReader {
    description: Option<Stored>,
    events: Arc<Mutex<Vec<Stored>>>,
    next: usize,
    inline_limit: usize,
    break_large_at: Option<u64>,
}

impl FeedReader for MemoryReader {
    fn next(&mut self) -> Result<FeedItem, FeedError> {
        let stored = match self.description.take() {
            Some(description) => description,
            None => {
                let Some(stored) = self.events.lock().unwrap().get(self.next).cloned() else {
                    return Ok(FeedItem::Dry);
                };
                self.next += 1;
                stored
            }
        };
        let bytes = if stored.bytes.len() > self.inline_limit {
            FeedBytes::Blocks(Box::new(MemoryBlocks {
                total: stored.bytes.len() as u64,
                rest: stored.bytes,
                break_at: self.break_large_at,
            }))
        } else {
            FeedBytes::Inline(stored.bytes)
        };
        Ok(FeedItem::Event(FeedEvent {
            type_code: stored.type_code,
            before: stored.before,
            after: stored.after,
            checksum: stored.checksum,
            bytes,
        }))
    }
}

#[derive(Debug)]
struct MemoryBlocks {
    total: u64,
    rest: Vec<u8>,
    break_at: Option<u64>,
}

impl BlockReader for MemoryBlocks {
    fn size(&self) -> u64 {
        self.total
    }

    fn read_block(&mut self, block: &mut [u8]) -> Result<usize, FeedError> {
        let done = self.total - self.rest.len() as u64;
        if self.break_at.is_some_and(|limit| done >= limit) {
            return Err(FeedError::from(binlog_core::LogError::Io {
                path: "/segment".into(),
                action: "read",
                source: std::io::Error::from(std::io::ErrorKind::InvalidData),
            }));
        }
        let size = block.len().min(self.rest.len()).min(100_000);
        block[..size].copy_from_slice(&self.rest[..size]);
        self.rest.drain(..size);
        Ok(size)
    }
}
