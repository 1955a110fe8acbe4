//! The stream for a replica that asks by its GTIDs: what it has is left out, what it lacks is sent, and nothing lies between.
//!
//! - **What the replica has is never sent**: transactions of its set are skipped from their GTID event to the next one. It
//!   is told of them by a restated position, so that its own positions stay those of the stream.
//! - **No gap**: where a transaction that it lacks is not preceded by the one with the number before, held or just sent,
//!   the rest is refused. A primary numbers its transactions in the order of its log, so what is refused wrongly can only
//!   be a transaction that it did not number itself.
//! - A transaction of which only the end is held, or one without a GTID, cannot be told from one that the replica has: refused.

use binlog_core::event::{HEADER_LEN, gtid};
use binlog_core::{BinlogPosition, EventType, Gtid, GtidSet};

use super::feed::{EventFeed, FeedBytes, FeedError, FeedEvent, FeedItem, FeedReader, chain};

/// Size of an event header in bytes.
const HEADER: usize = HEADER_LEN as usize;
/// Size of a checksum in bytes.
const CHECKSUM: usize = 4;

/// Opens the feed for a replica that has `held`. Its position begins at the head of the first file. The error is the
/// reason for the replica.
pub(super) fn open(
    feed: &dyn EventFeed,
    held: &GtidSet,
) -> Result<(BinlogPosition, Box<dyn FeedReader>), String> {
    let from = feed.range().from;
    let inner = feed.open(&from).map_err(|error| chain(&error))?;
    let head = BinlogPosition::new(from.file, binlog_core::event::FIRST_EVENT);
    Ok((head, Box::new(Lacking::new(inner, held.clone()))))
}

/// Whether a replica that has `held` can be served: up to the first transaction it lacks, the stream is read. Disk work.
///
/// # Errors
/// The reason for the refusal, or of the storage.
pub fn connects(feed: &dyn EventFeed, held: &GtidSet) -> Result<(), FeedError> {
    let mut reader = Lacking::new(feed.open(&feed.range().from)?, held.clone());
    while reader.part != Part::Sent {
        if let FeedItem::Dry = reader.next()? {
            break;
        }
    }
    Ok(())
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Before the first GTID.
    Head,
    /// In a transaction that is sent.
    Sent,
    /// In one that is left out.
    LeftOut,
}

/// Reads what the replica lacks.
#[derive(Debug)]
struct Lacking {
    inner: Box<dyn FeedReader>,
    /// What the replica has, and what it was sent.
    known: GtidSet,
    part: Part,
    /// End of what was left out since the last event sent.
    left_out: Option<BinlogPosition>,
    /// The first format description was read.
    described: bool,
}

impl Lacking {
    fn new(inner: Box<dyn FeedReader>, known: GtidSet) -> Self {
        Self {
            inner,
            known,
            part: Part::Head,
            left_out: None,
            described: false,
        }
    }

    /// Whether the transaction that begins is sent.
    fn begin(&mut self, event: &FeedEvent) -> Result<Part, FeedError> {
        let at = || event.before.clone();
        let gtid = gtid_of(event).ok_or_else(|| FeedError::WithoutGtid { at: at() })?;
        if self.known.contains(&gtid) {
            return Ok(Part::LeftOut);
        }
        let before = Gtid {
            number: gtid.number.saturating_sub(1),
            ..gtid.clone()
        };
        if before.number > 0 && !self.known.contains(&before) || self.known.insert(&gtid).is_err() {
            return Err(FeedError::Beyond { gtid, at: at() });
        }
        Ok(Part::Sent)
    }
}

fn gtid_of(event: &FeedEvent) -> Option<Gtid> {
    let FeedBytes::Inline(bytes) = &event.bytes else {
        return None;
    };
    let end = bytes.len()
        - if event.checksum {
            CHECKSUM.min(bytes.len())
        } else {
            0
        };
    let body = bytes.get(HEADER..end)?;
    match event.type_code {
        EventType::GTID => gtid::parse(body),
        EventType::GTID_TAGGED => gtid::parse_tagged(body),
        _ => None,
    }
}

impl FeedReader for Lacking {
    fn next(&mut self) -> Result<FeedItem, FeedError> {
        loop {
            let mut event = match self.inner.next()? {
                FeedItem::Event(event) => event,
                FeedItem::Dry => {
                    return Ok(self
                        .left_out
                        .take()
                        .map_or(FeedItem::Dry, FeedItem::Reached));
                }
                reached @ FeedItem::Reached(_) => return Ok(reached),
            };
            match event.type_code {
                EventType::FORMAT_DESCRIPTION => {
                    if !self.described
                        && let FeedBytes::Inline(bytes) = &event.bytes
                    {
                        // It is sent as at the head of its file; what is left out behind it is jumped over.
                        event.after.offset = binlog_core::event::FIRST_EVENT + bytes.len() as u64;
                    }
                    self.described = true;
                }
                EventType::ROTATE
                | EventType::STOP
                | EventType::PREVIOUS_GTIDS
                | EventType::HEARTBEAT
                | EventType::HEARTBEAT_V2 => {}
                EventType::GTID | EventType::GTID_TAGGED | EventType::ANONYMOUS_GTID => {
                    self.part = self.begin(&event)?;
                }
                _ if self.part == Part::Head => {
                    return Err(FeedError::WithoutGtid { at: event.before });
                }
                _ => {}
            }
            let framing = matches!(
                event.type_code,
                EventType::FORMAT_DESCRIPTION | EventType::ROTATE
            );
            if self.part == Part::LeftOut && !framing {
                self.left_out = Some(event.after);
                continue;
            }
            self.left_out = None;
            return Ok(FeedItem::Event(event));
        }
    }
}
