//! The disk stores a segment while it is still being written, so that little is left for the end.
//!
//! Nothing here waits for the disk, and nothing hears its errors: the sync at the end does both. Where the system does not
//! take the hint, that sync has more to do.

use std::fs::File;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{Advice, fadvise};

/// Bytes after which the disk is asked to store what was written since it was asked last.
const STORE_EVERY: u64 = 8 << 20;
/// The system keeps files in pages of this size or a fraction of it: one that is not full yet is left alone.
const PAGE: u64 = 64 << 10;

/// A thread that asks: even that may take its time where the disk has much to do.
#[derive(Debug)]
pub(super) struct Storing {
    /// Where a range begins and how long it is.
    asked: Option<SyncSender<(u64, NonZeroU64)>>,
    thread: Option<JoinHandle<()>>,
    /// What is before was asked for.
    before: u64,
}

impl Storing {
    /// For a file of about `expected` bytes; `None` if that is not worth it.
    pub(super) fn start(file: Arc<File>, expected: u64) -> Option<Self> {
        if expected <= STORE_EVERY {
            return None;
        }
        let (asked, requests) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                for (offset, len) in requests {
                    // Linux starts to write what is dirty in the range, does not wait for it, and forgets only what is
                    // clean: nothing yet.
                    let _ = fadvise(&file, offset, Some(len), Advice::DontNeed);
                }
            })
            .ok()?;
        Some(Self {
            asked: Some(asked),
            thread: Some(thread),
            before: 0,
        })
    }

    /// So many bytes are written by now.
    pub(super) fn written(&mut self, bytes: u64) {
        let full = bytes - bytes % PAGE;
        let Some(len) = full
            .checked_sub(self.before)
            .filter(|len| *len >= STORE_EVERY)
            .and_then(NonZeroU64::new)
        else {
            return;
        };
        // It may be busy with the bytes before: then these are asked for with those behind them.
        if let Some(asked) = &self.asked
            && asked.try_send((self.before, len)).is_ok()
        {
            self.before = full;
        }
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}
