//! Segments on disk as an [`EventFeed`], also while later ones still arrive.
//!
//! Each part is a verified [`SegmentChain`]; parts follow each other without a gap, which is checked when they are
//! appended. Connections read them one after the other and pick up a new part as soon as it is there.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use binlog_core::checksum::ChecksumAlgorithm;
use binlog_core::event::FormatDescription;
use binlog_core::segment::EventBlocks;
use binlog_core::{
    BinlogPosition, ChainEvents, EventBytes, EventType, MariaDbGtidPos, SegmentChain, StreamRange,
};
use tokio::sync::watch;

use super::feed::{
    BlockReader, EventFeed, FeedBytes, FeedError, FeedEvent, FeedItem, FeedReader, Growth,
};

/// Segments of one stream, in order.
#[derive(Debug)]
pub struct ChainFeed {
    start: BinlogPosition,
    parts: Arc<RwLock<Vec<Arc<SegmentChain>>>>,
    growth: watch::Sender<Growth>,
}

impl ChainFeed {
    /// Opens segments that are all there; each is verified. Disk work: call it from a blocking thread.
    ///
    /// # Errors
    /// If a segment is unusable or they do not follow each other.
    pub fn complete(segments: &[PathBuf]) -> Result<Self, FeedError> {
        let chain = SegmentChain::open(segments)?;
        Ok(Self::of(chain, Growth::Complete))
    }

    /// Opens the first segments of a stream of which more will come by [`Self::append`]. Disk work.
    ///
    /// # Errors
    /// As [`Self::complete`].
    pub fn growing(segments: &[PathBuf]) -> Result<Self, FeedError> {
        let chain = SegmentChain::open(segments)?;
        Ok(Self::of(chain, Growth::Growing(0)))
    }

    /// An opened chain that is all there is.
    pub fn of_chain(chain: SegmentChain) -> Self {
        Self::of(chain, Growth::Complete)
    }

    fn of(chain: SegmentChain, growth: Growth) -> Self {
        Self {
            start: chain.range().from,
            parts: Arc::new(RwLock::new(vec![Arc::new(chain)])),
            growth: watch::Sender::new(growth),
        }
    }

    /// Adds a segment that has arrived. Disk work.
    ///
    /// # Errors
    /// If it is unusable or does not start where the stream ends; the feed is unchanged then.
    pub fn append(&self, segment: &Path) -> Result<(), FeedError> {
        let chain = SegmentChain::open(&[segment.to_path_buf()])?;
        {
            let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
            let found = chain.range().from;
            if let Some(expected) = parts.last().map(|last| last.range().to)
                && expected != found
            {
                return Err(FeedError::Gap { expected, found });
            }
            parts.push(Arc::new(chain));
        }
        self.growth.send_modify(|growth| {
            if let Growth::Growing(arrivals) = growth {
                *arrivals += 1;
            }
        });
        Ok(())
    }

    /// Nothing more will come, and all is there.
    pub fn finish(&self) {
        self.growth.send_replace(Growth::Complete);
    }

    /// The rest will not come; what is there is still served, then replicas get this reason.
    pub fn fail(&self, reason: String) {
        self.growth.send_replace(Growth::Failed(reason));
    }

    fn parts(&self) -> Vec<Arc<SegmentChain>> {
        self.parts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl EventFeed for ChainFeed {
    fn range(&self) -> StreamRange {
        let parts = self.parts();
        let end = parts
            .last()
            .map_or_else(|| self.start.clone(), |last| last.range().to);
        StreamRange::new(self.start.clone(), end)
    }

    fn open(&self, from: &BinlogPosition) -> Result<Box<dyn FeedReader>, FeedError> {
        let parts = self.parts();
        let held = self.range();
        // The last part that starts at or before the position: at a meeting point the later one.
        let found = parts
            .iter()
            .enumerate()
            .rfind(|(_, part)| part.range().from <= *from);
        let Some((index, part)) = found.filter(|_| *from <= held.to) else {
            let asked = from.clone();
            let held = Box::new(held);
            return Err(FeedError::NotHeld { asked, held });
        };
        let events = part.events_from(from)?;
        Ok(Box::new(ChainReader {
            parts: Arc::clone(&self.parts),
            index,
            events: Some(events),
            at: from.clone(),
            described: false,
        }))
    }

    fn growth(&self) -> watch::Receiver<Growth> {
        self.growth.subscribe()
    }

    fn mariadb_gtid_pos_at(
        &self,
        at: &BinlogPosition,
    ) -> Result<Option<MariaDbGtidPos>, FeedError> {
        for part in self.parts() {
            if part.range().from <= *at
                && *at <= part.range().to
                && let Some(exact) = part.mariadb_gtid_pos_at(at)?
            {
                return Ok(Some(exact));
            }
        }
        Ok(None)
    }

    fn position_of_gtid_pos(
        &self,
        executed: &MariaDbGtidPos,
    ) -> Result<Option<BinlogPosition>, FeedError> {
        // The last part that knows: an earlier one knows the end of what it holds, which is too early.
        for part in self.parts().into_iter().rev() {
            if let Some(position) = part.position_of_gtid_pos(executed)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }
}

/// Reads one part after the other.
#[derive(Debug)]
struct ChainReader {
    parts: Arc<RwLock<Vec<Arc<SegmentChain>>>>,
    index: usize,
    /// `None`: the part at `index` is read to its end.
    events: Option<ChainEvents>,
    /// Where the stream is.
    at: BinlogPosition,
    /// The format description of the file at `at` was delivered.
    described: bool,
}

impl FeedReader for ChainReader {
    fn next(&mut self) -> Result<FeedItem, FeedError> {
        loop {
            if self.events.is_none() && !self.enter_next_part()? {
                return Ok(FeedItem::Dry);
            }
            let Some(event) = self.events.as_mut().and_then(Iterator::next) else {
                self.events = None;
                continue;
            };
            let event = event?;
            let type_code = event.header.type_code;
            if type_code == EventType::FORMAT_DESCRIPTION {
                // A part that goes on inside a file repeats that file's format description; a second one, with
                // its `created` time, would make the applier roll back.
                let repeated = self.described && event.position_after.file == self.at.file;
                self.described = true;
                if repeated {
                    continue;
                }
            }
            if event.position_after.file != self.at.file
                && type_code != EventType::FORMAT_DESCRIPTION
            {
                self.described = false;
            }
            self.at = event.position_after.clone();
            let checksum = match &event.bytes {
                // A format description has a checksum of its own whether or not the events after it have one.
                EventBytes::Inline(bytes) if type_code == EventType::FORMAT_DESCRIPTION => {
                    FormatDescription::parse(bytes)
                        .is_some_and(|description| description.checksum == ChecksumAlgorithm::Crc32)
                }
                EventBytes::Inline(_) | EventBytes::Blocks(_) => event.checksum,
            };
            return Ok(FeedItem::Event(FeedEvent {
                type_code,
                before: event.position_before,
                after: event.position_after,
                checksum,
                bytes: match event.bytes {
                    EventBytes::Inline(bytes) => FeedBytes::Inline(bytes),
                    EventBytes::Blocks(blocks) => FeedBytes::Blocks(Box::new(ChainBlocks(blocks))),
                },
            }));
        }
    }
}

impl ChainReader {
    /// Opens the part after the one read; false if there is none yet.
    fn enter_next_part(&mut self) -> Result<bool, FeedError> {
        let next = {
            let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
            parts.get(self.index + 1).map(Arc::clone)
        };
        let Some(part) = next else {
            return Ok(false);
        };
        self.events = Some(part.events_from(&part.range().from)?);
        self.index += 1;
        Ok(true)
    }
}

#[derive(Debug)]
struct ChainBlocks(EventBlocks);

impl BlockReader for ChainBlocks {
    fn size(&self) -> u64 {
        self.0.len()
    }

    fn read_block(&mut self, block: &mut [u8]) -> Result<usize, FeedError> {
        Ok(self.0.read_block(block)?)
    }
}
