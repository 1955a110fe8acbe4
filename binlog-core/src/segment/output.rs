//! The bytes of a segment on their way into its file: gathered, written, digested, brought to the disk.
//!
//! The digest of a whole segment takes longer than anything else about it, and a disk takes its time as well; neither
//! needs the thread that verifies and copies. So where there is enough to do a second thread digests what was written, and a
//! third, which does nothing but wait for the disk, has it store what is written so far. A few buffers go round. The digest is that of the
//! bytes in the order of the calls, and [`Output::finish`] returns after everything is on the disk.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use crate::error::LogError;

/// Bytes gathered before a write.
const BUFFER: usize = 512 << 10;
/// Buffers that go round between two threads.
const BUFFERS: usize = 8;
/// Segments of fewer bytes are not worth a thread.
const THREADS_FROM: u64 = 4 << 20;
/// Bytes after which the disk is asked to store what is written so far.
const STORE_EVERY: u64 = 32 << 20;

/// A file being written.
pub(super) struct Output<'a> {
    file: Arc<File>,
    path: &'a Path,
    buffer: Vec<u8>,
    written: u64,
    digest: Digest,
    storing: Option<Storing>,
    stored: u64,
}

impl<'a> Output<'a> {
    /// An empty file that will have about `expected` bytes; `path` is for errors.
    pub(super) fn new(file: File, path: &'a Path, expected: u64) -> Self {
        let file = Arc::new(file);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let digest = (expected >= THREADS_FROM && cores > 1)
            .then(Digesting::start)
            .flatten();
        let storing = (expected > STORE_EVERY)
            .then(|| Storing::start(Arc::clone(&file)))
            .flatten();
        Self {
            file,
            path,
            buffer: Vec::with_capacity(BUFFER),
            written: 0,
            digest: digest.map_or_else(|| Digest::Here(Sha256::new()), Digest::Beside),
            storing,
            stored: 0,
        }
    }

    /// Bytes taken so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Appends; true if something went to the file.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<bool, LogError> {
        self.written += bytes.len() as u64;
        let mut flushed = false;
        while self.buffer.len() + bytes.len() > BUFFER {
            let (head, rest) = bytes
                .split_at_checked(BUFFER - self.buffer.len())
                .unwrap_or((bytes, &[]));
            self.buffer.extend_from_slice(head);
            bytes = rest;
            self.flush()?;
            flushed = true;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(flushed)
    }

    fn flush(&mut self) -> Result<(), LogError> {
        (&*self.file)
            .write_all(&self.buffer)
            .map_err(LogError::io("write", self.path))?;
        if let Some(storing) = &self.storing
            && self.written - self.stored >= STORE_EVERY
        {
            storing.ask();
            self.stored = self.written;
        }
        self.buffer = self
            .digest
            .take(std::mem::take(&mut self.buffer))
            .map_err(LogError::io("digest", self.path))?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left and brings all of it to the disk; yields size and sha256.
    pub(super) fn finish(mut self) -> Result<(u64, [u8; 32]), LogError> {
        self.flush()?;
        self.storing
            .take()
            .map_or(Ok(()), Storing::finish)
            .and_then(|()| self.file.sync_all())
            .map_err(LogError::io("sync", self.path))?;
        let digest = self
            .digest
            .finish()
            .map_err(LogError::io("digest", self.path))?;
        Ok((self.written, digest))
    }
}

/// Where the digest is made.
enum Digest {
    Here(Sha256),
    Beside(Digesting),
}

impl Digest {
    /// Takes bytes in exchange for an empty buffer.
    fn take(&mut self, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Here(hasher) => {
                hasher.update(&bytes);
                Ok(bytes)
            }
            Self::Beside(digesting) => digesting.take(bytes),
        }
    }

    fn finish(self) -> std::io::Result<[u8; 32]> {
        match self {
            Self::Here(hasher) => Ok(hasher.finalize().into()),
            Self::Beside(mut digesting) => {
                digesting.channels = None;
                let thread = digesting.thread.take();
                thread
                    .and_then(|thread| thread.join().ok())
                    .map(|hasher| hasher.finalize().into())
                    .ok_or_else(Digesting::ended)
            }
        }
    }
}

/// Full buffers there, used ones back.
type Channels = (SyncSender<Vec<u8>>, Receiver<Vec<u8>>);

/// A thread that digests.
struct Digesting {
    channels: Option<Channels>,
    thread: Option<JoinHandle<Sha256>>,
}

impl Digesting {
    fn start() -> Option<Self> {
        let (full, full_out) = sync_channel::<Vec<u8>>(BUFFERS);
        let (used, used_out) = sync_channel(BUFFERS);
        for _ in 1..BUFFERS {
            used.try_send(Vec::with_capacity(BUFFER)).ok()?;
        }
        let thread = std::thread::Builder::new()
            .name("digest".to_owned())
            .spawn(move || {
                let mut hasher = Sha256::new();
                for bytes in full_out {
                    hasher.update(&bytes);
                    // There is always room: so many buffers there are. Nobody waits for the last ones.
                    let _ = used.try_send(bytes);
                }
                hasher
            })
            .ok()?;
        Some(Self {
            channels: Some((full, used_out)),
            thread: Some(thread),
        })
    }

    fn take(&mut self, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let (full, used) = self.channels.as_ref().ok_or_else(Self::ended)?;
        full.send(bytes).map_err(|_| Self::ended())?;
        used.recv().map_err(|_| Self::ended())
    }

    fn ended() -> std::io::Error {
        std::io::Error::other("the thread that digests has ended")
    }
}

impl Drop for Digesting {
    fn drop(&mut self) {
        self.channels = None;
        if let Some(thread) = self.thread.take() {
            // After an error: what it digested is of no use.
            let _ = thread.join();
        }
    }
}

/// A thread that has the disk store what is written so far, so that little is left for the end.
struct Storing {
    asked: Option<SyncSender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Storing {
    fn start(file: Arc<File>) -> Option<Self> {
        let (asked, requests) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                // The system tells of a failed write once: what it says here, the sync at the end does not hear again.
                requests.into_iter().try_for_each(|()| file.sync_data())
            })
            .ok()?;
        Some(Self {
            asked: Some(asked),
            thread: Some(thread),
        })
    }

    fn ask(&self) {
        if let Some(asked) = &self.asked {
            // It may be busy with the bytes before.
            let _ = asked.try_send(());
        }
    }

    /// Waits for the thread; an error that it met counts.
    fn finish(mut self) -> std::io::Result<()> {
        self.asked = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(std::io::Error::other("the thread that stores has ended")),
            None => Ok(()),
        }
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
