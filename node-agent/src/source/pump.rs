//! Moves events from a feed's reader, on a blocking thread, into a bounded channel.
//!
//! At most [`PIECES_AHEAD`] pieces wait, each at most [`BATCH_BYTES`] plus one inline event of about 1 MiB, so memory is
//! constant whatever the size of the stream or of an event. The thread ends when its reader has nothing more, fails,
//! or when the receiving side is dropped.

use binlog_core::{BinlogPosition, EventHeader, EventType};
use tokio::sync::mpsc;

use super::feed::{FeedBytes, FeedError, FeedEvent, FeedItem, FeedReader, chain};

/// Pieces read ahead of the connection.
const PIECES_AHEAD: usize = 4;
/// Events are handed over together up to this many bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// Block size of large events.
const BLOCK_BYTES: usize = 256 * 1024;

/// What the connection gets.
#[derive(Debug)]
pub(super) enum Piece {
    /// A file begins, or the first one goes on.
    FormatDescription {
        /// The event.
        bytes: Vec<u8>,
        /// Where the stream is after it.
        after: BinlogPosition,
        /// Events of this file end with a checksum.
        checksum: bool,
    },
    /// Whole events, one after the other in `bytes`.
    Events {
        /// All bytes.
        bytes: Vec<u8>,
        /// Each event's size in bytes, and where the stream is after it.
        marks: Vec<(usize, BinlogPosition)>,
    },
    /// Nothing is stored up to here: the next event starts there, in the same file.
    Jump(BinlogPosition),
    /// A large event begins; its blocks follow.
    Large {
        /// Size of the event in bytes.
        size: u64,
        /// Where the stream is after it.
        after: BinlogPosition,
    },
    /// Bytes of the large event.
    Block(Vec<u8>),
    /// Nothing at the moment; the reader comes back to be asked again.
    Dry(Box<dyn FeedReader>),
    /// The reader failed, for this reason.
    Failed(String),
}

/// Starts to read where the stream is `at`; the pieces arrive in order.
pub(super) fn start(reader: Box<dyn FeedReader>, at: BinlogPosition) -> mpsc::Receiver<Piece> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut batch = Batch {
            at,
            bytes: Vec::new(),
            marks: Vec::new(),
        };
        // An error means that nobody listens any more: the connection is gone.
        let _gone = pump(reader, &mut batch, &sender);
    });
    receiver
}

/// The receiving side was dropped.
struct Gone;

struct Batch {
    /// Where the stream is.
    at: BinlogPosition,
    bytes: Vec<u8>,
    marks: Vec<(usize, BinlogPosition)>,
}

impl Batch {
    fn flush(&mut self, sender: &mpsc::Sender<Piece>) -> Result<(), Gone> {
        if self.marks.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        let marks = std::mem::take(&mut self.marks);
        send(sender, Piece::Events { bytes, marks })
    }
}

fn send(sender: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), Gone> {
    sender.blocking_send(piece).map_err(|_| Gone)
}

fn pump(
    mut reader: Box<dyn FeedReader>,
    batch: &mut Batch,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), Gone> {
    loop {
        let last = match reader.next() {
            Ok(FeedItem::Event(event)) => match deliver(event, batch, sender)? {
                Ok(()) => continue,
                Err(error) => Piece::Failed(chain(&error)),
            },
            Ok(FeedItem::Reached(place)) if place == batch.at => continue,
            Ok(FeedItem::Reached(place)) if place.file == batch.at.file && place > batch.at => {
                batch.flush(sender)?;
                batch.at = place.clone();
                send(sender, Piece::Jump(place))?;
                continue;
            }
            Ok(FeedItem::Reached(found)) => {
                let expected = batch.at.clone();
                Piece::Failed(chain(&FeedError::Gap { expected, found }))
            }
            Ok(FeedItem::Dry) => {
                batch.flush(sender)?;
                return send(sender, Piece::Dry(reader));
            }
            Err(error) => Piece::Failed(chain(&error)),
        };
        batch.flush(sender)?;
        return send(sender, last);
    }
}

fn deliver(
    event: FeedEvent,
    batch: &mut Batch,
    sender: &mpsc::Sender<Piece>,
) -> Result<Result<(), FeedError>, Gone> {
    if event.type_code != EventType::FORMAT_DESCRIPTION && event.before != batch.at {
        if event.before.file != batch.at.file || event.before < batch.at {
            return Ok(Err(FeedError::Gap {
                expected: batch.at.clone(),
                found: event.before,
            }));
        }
        batch.flush(sender)?;
        send(sender, Piece::Jump(event.before))?;
    }
    let after = event.after;
    batch.at = after.clone();
    let mut blocks = match event.bytes {
        FeedBytes::Inline(bytes) => {
            if let Err(error) = check_size(&bytes, bytes.len() as u64, &after) {
                return Ok(Err(error));
            }
            if event.type_code == EventType::FORMAT_DESCRIPTION {
                batch.flush(sender)?;
                let checksum = event.checksum;
                let piece = Piece::FormatDescription {
                    bytes,
                    after,
                    checksum,
                };
                return send(sender, piece).map(Ok);
            }
            batch.marks.push((bytes.len(), after));
            if batch.bytes.is_empty() {
                batch.bytes = bytes;
            } else {
                batch.bytes.extend_from_slice(&bytes);
            }
            if batch.bytes.len() >= BATCH_BYTES {
                batch.flush(sender)?;
            }
            return Ok(Ok(()));
        }
        FeedBytes::Blocks(blocks) => blocks,
    };
    batch.flush(sender)?;
    let size = blocks.size();
    let mut sent = 0u64;
    loop {
        let mut block = vec![0; BLOCK_BYTES];
        let filled = match fill(blocks.as_mut(), &mut block) {
            Ok(filled) => filled,
            Err(error) => return Ok(Err(error)),
        };
        block.truncate(filled);
        if sent == 0 {
            if let Err(error) = check_size(&block, size, &after) {
                return Ok(Err(error));
            }
            let after = after.clone();
            send(sender, Piece::Large { size, after })?;
        }
        if filled == 0 {
            break;
        }
        sent += filled as u64;
        send(sender, Piece::Block(block))?;
    }
    Ok(if sent == size {
        Ok(())
    } else {
        Err(FeedError::SizeMismatch {
            at: after,
            announced: size,
            found: sent,
        })
    })
}

fn fill(blocks: &mut dyn super::feed::BlockReader, block: &mut [u8]) -> Result<usize, FeedError> {
    let mut filled = 0;
    while let Some(free) = block.get_mut(filled..).filter(|free| !free.is_empty()) {
        match blocks.read_block(free)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// The size in the header must be what is sent: a replica cuts the stream by it.
fn check_size(start: &[u8], size: u64, at: &BinlogPosition) -> Result<(), FeedError> {
    let announced = EventHeader::parse(start).map_or(0, |header| u64::from(header.event_size));
    if announced == size {
        return Ok(());
    }
    Err(FeedError::SizeMismatch {
        at: at.clone(),
        announced,
        found: size,
    })
}
