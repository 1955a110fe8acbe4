//! The bytes of a segment on their way into its file: written, digested, brought to the disk.
//!
//! The digest of a whole segment takes longer than anything else about it, and a disk takes its time as well; neither
//! needs the thread that verifies and writes. So where there is enough to do a second thread digests what was written, and a
//! third has the disk begin to store what is written so far. The bytes are not copied for
//! that: the buffer into which they were read goes to the thread that digests, and comes back as one to read into. A few
//! go round. The digest is that of the bytes in the order of the calls, and [`Output::finish`] returns after everything is on
//! the disk.
//!
//! Whoever does not know yet where the segment ends marks the places at which it may: the state of the digest is kept at
//! the last one, and the file is cut off there.

mod digest;
mod store;

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::digest::Digest;
use self::store::Storing;
use crate::error::LogError;

/// Bytes gathered before a write.
const BUFFER: usize = 256 << 10;
/// Segments of fewer bytes are not worth a thread.
const THREADS_FROM: u64 = 4 << 20;

/// Some of the bytes in a buffer.
#[derive(Debug)]
struct Block {
    buffer: Vec<u8>,
    range: Range<usize>,
    /// The segment may end behind so many of them.
    mark: Option<usize>,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

/// A file being written.
#[derive(Debug)]
pub(super) struct Output {
    file: Arc<File>,
    path: PathBuf,
    /// What came byte by byte.
    gathered: Vec<u8>,
    /// To be exchanged for the next buffer.
    spare: Vec<u8>,
    written: u64,
    digest: Digest,
    /// Where the segment may end.
    mark: u64,
    /// Where the digest was kept.
    kept: u64,
    storing: Option<Storing>,
}

impl Output {
    /// An empty file that will have about `expected` bytes; `path` is for errors.
    pub(super) fn new(file: File, path: &Path, expected: u64) -> Self {
        let file = Arc::new(file);
        let storing = Storing::start(Arc::clone(&file), expected);
        Self {
            file,
            path: path.to_owned(),
            gathered: Vec::with_capacity(BUFFER),
            spare: Vec::new(),
            written: 0,
            digest: Digest::new(expected >= THREADS_FROM),
            mark: 0,
            kept: 0,
            storing,
        }
    }

    /// Bytes taken so far.
    pub(super) fn written(&self) -> u64 {
        self.written + self.gathered.len() as u64
    }

    /// The segment may end at `offset`, which is not before what was taken when this was last called.
    pub(super) fn mark(&mut self, offset: u64) {
        self.mark = offset;
    }

    /// Appends; true if something went to the file.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<bool, LogError> {
        let mut flushed = false;
        while self.gathered.len() + bytes.len() > BUFFER {
            let (head, rest) = bytes
                .split_at_checked(BUFFER.saturating_sub(self.gathered.len()))
                .unwrap_or((bytes, &[]));
            self.gathered.extend_from_slice(head);
            bytes = rest;
            self.flush()?;
            flushed = true;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(flushed)
    }

    /// A buffer to give in exchange for one with bytes to append.
    pub(super) fn spare(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    /// Appends a part of a buffer.
    pub(super) fn put_buffer(
        &mut self,
        buffer: Vec<u8>,
        range: Range<usize>,
    ) -> Result<(), LogError> {
        self.flush()?;
        self.spare = self.append(buffer, range)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            let range = 0..gathered.len();
            self.gathered = self.append(gathered, range)?;
            self.gathered.clear();
        }
        Ok(())
    }

    /// Writes a block and has it digested; yields another buffer.
    fn append(&mut self, buffer: Vec<u8>, range: Range<usize>) -> Result<Vec<u8>, LogError> {
        let mut block = Block {
            buffer,
            range,
            mark: None,
        };
        (&*self.file)
            .write_all(block.bytes())
            .map_err(LogError::io("write", &self.path))?;
        let before = self.written;
        self.written += block.bytes().len() as u64;
        if before < self.mark && self.mark <= self.written {
            block.mark = usize::try_from(self.mark - before).ok();
            self.kept = self.mark;
        }
        if let Some(storing) = &mut self.storing {
            storing.written(self.written);
        }
        self.digest
            .take(block)
            .map_err(LogError::io("digest", &self.path))
    }

    /// Writes what is left, cuts off what is behind `end` (all there is, or the last mark) and brings all of it to the
    /// disk; yields the sha256.
    pub(super) fn finish(mut self, end: u64) -> Result<[u8; 32], LogError> {
        self.flush()?;
        let whole = end == self.written;
        if !whole {
            let error = || std::io::Error::other("the digest was not kept there");
            (end == self.kept)
                .then_some(())
                .ok_or_else(error)
                .and_then(|()| self.file.set_len(end))
                .map_err(LogError::io("cut off", &self.path))?;
        }
        drop(self.storing.take());
        self.file
            .sync_all()
            .map_err(LogError::io("sync", &self.path))?;
        let digests = self
            .digest
            .finish()
            .map_err(LogError::io("digest", &self.path))?;
        Ok(if whole { digests.all } else { digests.kept })
    }
}
