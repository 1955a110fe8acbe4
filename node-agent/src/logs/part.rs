//! The receiving end of a transfer on disk: a `.part` file that grows by verified chunks and becomes the segment.
//!
//! Guarantees: a byte is in the part file only if its chunk's CRC-32 was right and it follows the byte before; the
//! segment appears only if size and sha256 are those announced, and its manifest after it. A part file survives a
//! restart of the agent: its bytes are hashed again and the transfer goes on behind them. It is locked while it is
//! open, so a transfer that was given up cannot write into the next one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use binlog_core::Manifest;
use bytes::Bytes;
use proto::v1::SegmentChunk;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::state::durable::{self, DurableError};

/// Chunks between network and disk.
pub(super) const DEPTH: usize = 6;

/// What a segment must turn out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// Bytes.
    pub(super) size: u64,
    /// Digest of the whole file.
    pub(super) sha256: [u8; 32],
}

/// What is wrong with what arrived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// A chunk's checksum differs: damaged on its way, or its sender lies.
    #[error("chunk at offset {offset} has CRC-32 {found:08x}, announced was {announced:08x}")]
    Crc {
        /// Offset of the chunk.
        offset: u64,
        /// Checksum announced with it.
        announced: u32,
        /// Checksum of what came.
        found: u32,
    },
    /// A chunk is empty, does not follow the one before, or goes beyond the announced size.
    #[error(
        "chunk [{offset}, {end}) does not fit: expected is one at {expected}, up to {size} at most"
    )]
    OutOfPlace {
        /// Its offset.
        offset: u64,
        /// Its end.
        end: u64,
        /// Where it should begin.
        expected: u64,
        /// Size of the segment.
        size: u64,
    },
    /// All bytes came, and they are not the announced ones; the part file was removed.
    #[error("segment {} has sha256 {found}, announced was {announced}", path.display())]
    Digest {
        /// The segment.
        path: PathBuf,
        /// Announced digest, hex.
        announced: String,
        /// Digest of what came, hex.
        found: String,
    },
    /// The file system refused.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// A segment on its way in.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    segment: PathBuf,
    expected: Expected,
    hasher: Sha256,
    length: u64,
}

impl Part {
    /// Opens or creates the part file of `segment`; `None` if another transfer holds it. One that is too long is begun
    /// anew. Reads what is there.
    pub(super) fn open(segment: &Path, expected: Expected) -> Result<Option<Self>, DurableError> {
        let path = super::store::part_path(segment);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(DurableError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(DurableError::io("lock", &path)(error)),
        }
        // Between opening and locking its former holder may have made it the segment, or removed it.
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let opened = file
            .metadata()
            .map(inode)
            .map_err(DurableError::io("read", &path))?;
        if fs::symlink_metadata(&path).map(inode).ok() != Some(opened) {
            return Ok(None);
        }
        let mut hasher = Sha256::new();
        let mut length = 0;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = file
                .read(&mut buffer)
                .map_err(DurableError::io("read", &path))?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            hasher.update(bytes);
            length += count as u64;
        }
        if length > expected.size {
            file.set_len(0)
                .map_err(DurableError::io("truncate", &path))?;
            hasher = Sha256::new();
            length = 0;
        }
        Ok(Some(Self {
            file,
            path,
            segment: segment.to_path_buf(),
            expected,
            hasher,
            length,
        }))
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether all bytes are there.
    pub(super) fn is_full(&self) -> bool {
        self.length == self.expected.size
    }

    /// Appends a chunk, or says why it is not the next one. Its digest is the caller's business.
    fn append(&mut self, chunk: &SegmentChunk) -> Result<(), PartError> {
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        if chunk.data.is_empty() || chunk.offset != self.length || end > self.expected.size {
            return Err(PartError::OutOfPlace {
                offset: chunk.offset,
                end,
                expected: self.length,
                size: self.expected.size,
            });
        }
        let found = crc32fast::hash(&chunk.data);
        if found != chunk.crc32 {
            return Err(PartError::Crc {
                offset: chunk.offset,
                announced: chunk.crc32,
                found,
            });
        }
        self.file
            .write_all(&chunk.data)
            .map_err(DurableError::io("write", &self.path))?;
        self.length = end;
        Ok(())
    }

    /// Appends what comes through `chunks` until it closes or a chunk is refused; tells the length through `written`.
    /// Gives itself back in either case, to go on from where it is. Blocks. What is written is hashed by a second thread:
    /// the digest alone takes as long as checksum and write together.
    pub(super) fn receive(
        mut self,
        mut chunks: mpsc::Receiver<SegmentChunk>,
        written: &Arc<AtomicU64>,
    ) -> (Self, Result<(), PartError>) {
        let mut hasher = std::mem::take(&mut self.hasher);
        let (to_digest, appended) = std::sync::mpsc::sync_channel::<Bytes>(DEPTH);
        let received = thread::scope(|scope| {
            let digest = thread::Builder::new()
                .name("segment-digest".to_owned())
                .spawn_scoped(scope, || {
                    for data in appended {
                        hasher.update(&data);
                    }
                });
            if let Err(error) = digest {
                return Err(DurableError::io("start a thread for", &self.path)(error).into());
            }
            while let Some(chunk) = chunks.blocking_recv() {
                self.append(&chunk)?;
                written.store(self.length, Ordering::Relaxed);
                // The digest thread ends only when this end is dropped, here and on every way out.
                let _ = to_digest.send(chunk.data);
            }
            drop(to_digest);
            Ok(())
        });
        self.hasher = hasher;
        (self, received)
    }

    /// Makes the full part file the segment, and writes its manifest. On a wrong digest the part file is removed.
    pub(super) fn finish(self, manifest_json: &[u8]) -> Result<PathBuf, PartError> {
        let found: [u8; 32] = self.hasher.finalize().into();
        if self.length != self.expected.size || found != self.expected.sha256 {
            durable::remove(&self.path)?;
            return Err(PartError::Digest {
                path: self.segment,
                announced: hex::encode(self.expected.sha256),
                found: hex::encode(found),
            });
        }
        self.file
            .sync_all()
            .map_err(DurableError::io("sync", &self.path))?;
        // One of another segment under this name must not vouch for the new bytes, should this end between the two.
        let manifest = Manifest::path_for(&self.segment);
        durable::remove(&manifest)?;
        fs::rename(&self.path, &self.segment).map_err(DurableError::io("rename", &self.path))?;
        if let Some(folder) = self.segment.parent() {
            durable::sync_directory(folder)?;
        }
        durable::write(&manifest, manifest_json)?;
        Ok(self.segment)
    }
}
