//! Reads and sums ahead of a walk, on a thread of its own.
//!
//! The thread reads blocks, hops from header to header and verifies the checksum of each event; whoever walks finds
//! the blocks ready and only follows positions and transactions. The thread decides nothing: it hands over bytes up to the end of the
//! last event that is [`ordinary`], and stops for good at the first one that is not (a damaged or cut off one, a format
//! description, one over [`INLINE_MAX`], an I/O error). The walk goes on from there by itself and finds out what it is,
//! as if no thread had been. So ends and errors are the same with and without.
//!
//! A few buffers go round, never more. Dropping the handle ends the thread and waits for it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::checksum::ChecksumAlgorithm;
use crate::event::{EventHeader, EventType, HEADER_LEN};

use super::INLINE_MAX;

/// Buffers that go round.
const BUFFERS: usize = 4;

/// A header whose event lies whole at the start of `rest`, has a right checksum and changes nothing about how the file
/// is read. The header alone is looked at where the sum is known to be right.
#[inline]
pub(super) fn ordinary(
    rest: &[u8],
    checksum: ChecksumAlgorithm,
    proven: bool,
) -> Option<EventHeader> {
    let header = EventHeader::parse(rest)?;
    if header.event_size < HEADER_LEN + checksum.len()
        || header.type_code == EventType::FORMAT_DESCRIPTION
        || header.type_code == EventType::MARIADB_START_ENCRYPTION
    {
        return None;
    }
    let event = rest.get(..header.event_size as usize)?;
    if !proven && checksum == ChecksumAlgorithm::Crc32 {
        let (stored, computed) = crate::checksum::checksums(event)?;
        if stored != computed {
            return None;
        }
    }
    Some(header)
}

/// Where to read.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: Arc<File>,
    /// Start of an event.
    pub(super) at: u64,
    /// Nothing behind it is read.
    pub(super) end: u64,
    pub(super) checksum: ChecksumAlgorithm,
    /// Bytes read at a time.
    pub(super) block: usize,
}

/// Whole events with right checksums: the first `len` bytes of `buffer`, from `start` in the file.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) start: u64,
    pub(super) len: usize,
    pub(super) buffer: Vec<u8>,
}

/// A thread that reads ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Both ends are dropped before the thread is waited for.
    channels: Option<(Receiver<Block>, SyncSender<Vec<u8>>)>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// `None` if the system has no thread to give: then nobody reads ahead.
    pub(super) fn start(job: Job) -> Option<Self> {
        let (blocks_in, blocks) = sync_channel(BUFFERS);
        let (buffers, buffers_out) = sync_channel::<Vec<u8>>(BUFFERS + 1);
        for _ in 0..BUFFERS {
            buffers.try_send(Vec::new()).ok()?;
        }
        let thread = std::thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn(move || run(job, &buffers_out, &blocks_in))
            .ok()?;
        Some(Self {
            channels: Some((blocks, buffers)),
            thread: Some(thread),
        })
    }

    /// The next block in exchange for a used buffer; `None` once the thread came to what it leaves to the walk.
    pub(super) fn next(&mut self, used: Vec<u8>) -> Option<Block> {
        let (blocks, buffers) = self.channels.as_ref()?;
        // A thread that has ended takes no more buffers.
        let _ = buffers.try_send(used);
        blocks.recv().ok()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.channels = None;
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and what it read is of no use any more.
            let _ = thread.join();
        }
    }
}

fn run(mut job: Job, buffers: &Receiver<Vec<u8>>, blocks: &SyncSender<Block>) {
    while let Ok(buffer) = buffers.recv() {
        let Some(block) = job.read(buffer) else {
            return;
        };
        job.at = block.start + block.len as u64;
        if blocks.send(block).is_err() {
            return;
        }
    }
}

impl Job {
    /// The next block; `None` if it would be empty.
    fn read(&self, mut buffer: Vec<u8>) -> Option<Block> {
        let mut want = self.block;
        loop {
            let filled = self.fill(&mut buffer, want)?;
            let bytes = buffer.get(..filled)?;
            let mut len = 0;
            while let Some(header) = ordinary(bytes.get(len..)?, self.checksum, false) {
                len += header.event_size as usize;
            }
            if len > 0 {
                return Some(Block {
                    start: self.at,
                    len,
                    buffer,
                });
            }
            // One event may be longer than a block.
            let size = EventHeader::parse(bytes)?.event_size as usize;
            if size <= want || size > INLINE_MAX {
                return None;
            }
            want = size;
        }
    }

    fn fill(&self, buffer: &mut Vec<u8>, want: usize) -> Option<usize> {
        let rest = usize::try_from(self.end.checked_sub(self.at)?).unwrap_or(usize::MAX);
        let want = want.min(rest);
        if buffer.len() < want {
            buffer.resize(want, 0);
        }
        let mut filled = 0;
        while filled < want {
            match self
                .file
                .read_at(buffer.get_mut(filled..want)?, self.at + filled as u64)
            {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(filled)
    }
}
