//! The disk stores a segment while it is still being written, so that little is left for the end.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A thread that has the disk store what is written so far, so that little is left for the end.
#[derive(Debug)]
pub(super) struct Storing {
    asked: Option<SyncSender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Storing {
    pub(super) fn start(file: Arc<File>) -> Option<Self> {
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

    pub(super) fn ask(&self) {
        if let Some(asked) = &self.asked {
            // It may be busy with the bytes before.
            let _ = asked.try_send(());
        }
    }

    /// Waits for the thread; an error that it met counts.
    pub(super) fn finish(mut self) -> std::io::Result<()> {
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
