//! Where the local source takes its events from.
//!
//! [`EventFeed`] is the dead primary's event stream from some position on: complete on disk, or still growing
//! while segments arrive. Reading is synchronous disk work and is done on blocking threads; waiting for growth
//! is not the reader's business, it says [`FeedItem::Dry`] and the feed's [`Growth`] tells when to look again.

use std::fmt;

use binlog_core::{BinlogPosition, EventType, Gtid, LogError, MariaDbGtidPos, StreamRange};
use thiserror::Error;
use tokio::sync::watch;

/// Why events cannot be delivered. The text becomes the replica's `Last_IO_Error`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The position lies outside of what the feed holds.
    #[error("{asked} is not held: the segments cover {held}")]
    NotHeld {
        /// What the replica asked for.
        asked: BinlogPosition,
        /// What there is.
        held: Box<StreamRange>,
    },
    /// What follows does not continue the stream.
    #[error("what starts at {found} does not continue the stream at {expected}")]
    Gap {
        /// Where the stream stands.
        expected: BinlogPosition,
        /// Where the next part or event starts.
        found: BinlogPosition,
    },
    /// A segment file is unreadable or not what its manifest says.
    #[error("segment unusable")]
    Log(#[source] Box<LogError>),
    /// By GTIDs: a transaction that nobody could tell from one that the replica has.
    #[error("what starts at {at} has no GTID")]
    WithoutGtid {
        /// Where it starts.
        at: BinlogPosition,
    },
    /// By GTIDs: the replica lacks what comes right before the first transaction that could be sent.
    #[error(
        "{gtid} at {at} is not the next one that the replica lacks: it has not got the one before"
    )]
    Beyond {
        /// The transaction.
        gtid: Gtid,
        /// Where it starts.
        at: BinlogPosition,
    },
    /// An event's size field does not fit its bytes.
    #[error("event before {at} announces {announced} bytes and has {found}")]
    SizeMismatch {
        /// End of the event in the stream.
        at: BinlogPosition,
        /// Size announced.
        announced: u64,
        /// Bytes found.
        found: u64,
    },
}

impl From<LogError> for FeedError {
    fn from(error: LogError) -> Self {
        Self::Log(Box::new(error))
    }
}

/// Whether more events will come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Growth {
    /// More will come; the number changes with each arrival.
    Growing(u64),
    /// All there will ever be is there.
    Complete,
    /// The rest will not come, for this reason. What is there is still served.
    Failed(String),
}

/// A dead primary's event stream, read by any number of connections at once.
pub trait EventFeed: Send + Sync + fmt::Debug + 'static {
    /// What is held now. Its start never changes, its end only grows.
    fn range(&self) -> StreamRange;

    /// Starts reading at `from`, an event boundary in the range or its end; it may lie inside a transaction.
    ///
    /// # Errors
    /// If the position is not held or no boundary, or the storage fails.
    fn open(&self, from: &BinlogPosition) -> Result<Box<dyn FeedReader>, FeedError>;

    /// Tells when to look again after [`FeedItem::Dry`].
    fn growth(&self) -> watch::Receiver<Growth>;

    /// MariaDB: the GTID position of the primary exactly at `at`; `None` if the feed cannot tell.
    ///
    /// # Errors
    /// If the storage fails.
    fn mariadb_gtid_pos_at(&self, at: &BinlogPosition)
    -> Result<Option<MariaDbGtidPos>, FeedError>;

    /// MariaDB: from where a replica that executed `executed` must be served; `None` if the feed cannot tell.
    ///
    /// # Errors
    /// If the storage fails.
    fn position_of_gtid_pos(
        &self,
        executed: &MariaDbGtidPos,
    ) -> Result<Option<BinlogPosition>, FeedError>;
}

/// One reading of a feed. The first event, and the first of each further file, is that file's format description.
pub trait FeedReader: Send + fmt::Debug {
    /// The next event, in stream order.
    ///
    /// # Errors
    /// If the storage fails; the reader is not to be used again.
    fn next(&mut self) -> Result<FeedItem, FeedError>;
}

/// What a reader found.
#[derive(Debug)]
pub enum FeedItem {
    /// An event.
    Event(FeedEvent),
    /// Nothing is sent up to here, which lies in the file of the last event.
    Reached(BinlogPosition),
    /// Nothing at the moment; the reader can be asked again later.
    Dry,
}

/// One event as the dead primary wrote it.
#[derive(Debug)]
pub struct FeedEvent {
    /// Type code of the header.
    pub type_code: EventType,
    /// Where it starts. Beyond the end of the event before it, in the same file, if the provider does not store what
    /// lies between (relay logs lack some events of no effect); never before it.
    pub before: BinlogPosition,
    /// Where the stream is after it; after a Rotate that is the next file at 4.
    pub after: BinlogPosition,
    /// The events of its file end with a CRC-32.
    pub checksum: bool,
    /// Header, body and checksum.
    pub bytes: FeedBytes,
}

/// Bytes of an event.
#[derive(Debug)]
pub enum FeedBytes {
    /// All of it, at most about 1 MiB.
    Inline(Vec<u8>),
    /// A large event, read in blocks.
    Blocks(Box<dyn BlockReader>),
}

/// Bytes of a large event in order.
pub trait BlockReader: Send + fmt::Debug {
    /// Size of the whole event in bytes.
    fn size(&self) -> u64;

    /// Fills `block` with the next bytes; 0 at the end.
    ///
    /// # Errors
    /// If the storage fails.
    fn read_block(&mut self, block: &mut [u8]) -> Result<usize, FeedError>;
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
