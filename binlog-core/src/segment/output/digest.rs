//! The digest of a segment while it is written, on a thread of its own where that is worth it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use super::{BUFFER, Block};

/// Buffers that go round between two threads: enough that neither waits for the other while the system gives it no time, and
/// that the caches of one core have forgotten a buffer before the other one writes into it again.
const BUFFERS: usize = 32;
/// Bytes of buffers at most that wait for the digest, one buffer more or less.
const WAITING: usize = BUFFERS * BUFFER;
/// A larger buffer, grown by an event of up to 1 MiB, is given back to the system and not to its next user: thirty-two of
/// those would be half of the memory that an agent may take.
const LARGEST_KEPT: usize = 2 * BUFFER;

/// [`State`], finished.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) all: [u8; 32],
    pub(super) kept: [u8; 32],
}

/// Of all bytes, and of those before the last mark.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    all: Sha256,
    kept: Sha256,
}

impl State {
    fn update(&mut self, block: &Block) {
        let bytes = block.bytes();
        match block.mark.and_then(|mark| bytes.split_at_checked(mark)) {
            Some((before, behind)) => {
                self.all.update(before);
                self.kept = self.all.clone();
                self.all.update(behind);
            }
            None => self.all.update(bytes),
        }
    }

    fn finish(self) -> Digests {
        Digests {
            all: self.all.finalize().into(),
            kept: self.kept.finalize().into(),
        }
    }
}

/// Where the digest is made.
#[derive(Debug)]
pub(super) enum Digest {
    Here(Box<State>),
    Beside(Digesting),
}

impl Digest {
    /// Beside the caller if there is `much` to do, a core and a thread for it.
    pub(super) fn new(much: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (much && cores > 1)
            .then(Digesting::start)
            .flatten()
            .map_or_else(|| Self::Here(Box::default()), Self::Beside)
    }

    /// Takes bytes in exchange for a used buffer.
    pub(super) fn take(&mut self, block: Block) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Here(state) => {
                state.update(&block);
                Ok(block.buffer)
            }
            Self::Beside(digesting) => digesting.take(block),
        }
    }

    pub(super) fn finish(self) -> std::io::Result<Digests> {
        match self {
            Self::Here(state) => Ok(state.finish()),
            Self::Beside(mut digesting) => {
                digesting.channels = None;
                let thread = digesting.thread.take();
                thread
                    .and_then(|thread| thread.join().ok())
                    .map(State::finish)
                    .ok_or_else(Digesting::ended)
            }
        }
    }
}

/// A buffer to be used again, and how many bytes it had while it waited.
type Used = (Vec<u8>, usize);

/// Full buffers there, used ones back.
type Channels = (SyncSender<Block>, Receiver<Used>);

/// A thread that digests.
#[derive(Debug)]
pub(super) struct Digesting {
    channels: Option<Channels>,
    thread: Option<JoinHandle<State>>,
    /// Bytes of the buffers that were handed over and did not come back yet.
    waiting: usize,
    /// Buffers that came back before they were needed. They are empty.
    early: usize,
}

impl Digesting {
    fn start() -> Option<Self> {
        let (full, full_out) = sync_channel::<Block>(BUFFERS);
        let (used, used_out) = sync_channel(BUFFERS);
        for _ in 1..BUFFERS {
            used.try_send((Vec::new(), 0)).ok()?;
        }
        let thread = std::thread::Builder::new()
            .name("digest".to_owned())
            .spawn(move || {
                let mut state = State::default();
                for block in full_out {
                    state.update(&block);
                    let bytes = block.buffer.capacity();
                    let buffer = if bytes > LARGEST_KEPT {
                        Vec::new()
                    } else {
                        block.buffer
                    };
                    // There is always room: so many buffers there are. Nobody waits for the last ones.
                    let _ = used.try_send((buffer, bytes));
                }
                state
            })
            .ok()?;
        Some(Self {
            channels: Some((full, used_out)),
            thread: Some(thread),
            waiting: 0,
            early: 0,
        })
    }

    fn take(&mut self, block: Block) -> std::io::Result<Vec<u8>> {
        let (full, used) = self.channels.as_ref().ok_or_else(Self::ended)?;
        self.waiting += block.buffer.capacity();
        full.send(block).map_err(|_| Self::ended())?;
        if self.waiting <= WAITING && self.early > 0 {
            self.early -= 1;
            return Ok(Vec::new());
        }
        loop {
            let (buffer, bytes) = used.recv().map_err(|_| Self::ended())?;
            self.waiting = self.waiting.saturating_sub(bytes);
            if self.waiting <= WAITING {
                return Ok(buffer);
            }
            self.early += 1;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: usize, content: u8) -> Block {
        Block {
            buffer: vec![content; bytes],
            range: 0..bytes,
            mark: None,
        }
    }

    #[test]
    fn large_buffers_neither_pile_up_nor_stay() {
        let mut digesting = Digesting::start().unwrap();
        let mut expected = Sha256::new();
        for number in 0..200_u8 {
            // Small ones behind large ones find their buffers again.
            let bytes = if number < 100 { 1 << 20 } else { BUFFER };
            let block = block(bytes, number);
            expected.update(block.bytes());
            let next = digesting.take(block).unwrap();
            assert!(next.capacity() <= LARGEST_KEPT, "{}", next.capacity());
            assert!(digesting.waiting <= WAITING, "{}", digesting.waiting);
            assert!(digesting.early < BUFFERS, "{}", digesting.early);
        }
        let digests = Digest::Beside(digesting).finish().unwrap();
        assert_eq!(digests.all[..], expected.finalize()[..]);
    }
}
