//! Tells when a file appears in a folder, within a millisecond, by inotify.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// News of one folder.
pub struct FolderEvents(AsyncFd<Watcher>);

/// inotify for tokio's reactor, which asks for the descriptor in both ways.
struct Watcher(Inotify);

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl FolderEvents {
    /// Begins to watch; what appeared before is not told. Needs a tokio runtime.
    ///
    /// # Errors
    /// The folder is not there, or the limit of inotify is reached.
    // tokio 1.54 deprecates the safe constructor in favour of an unsafe one, for types whose descriptor may change or
    // close while registered; ours owns one descriptor for all its life.
    #[allow(deprecated)]
    pub fn new(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(
            folder,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
        )?;
        AsyncFd::with_interest(Watcher(inotify), Interest::READABLE).map(Self)
    }

    /// Returns when a file that `wanted` accepts has appeared; also when news were lost. Cancel-safe: what was read and not
    /// wanted is gone, what is not read stays.
    pub async fn appeared(&self, wanted: impl Fn(&OsStr) -> bool) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                // The reactor is going away with the runtime.
                return std::future::pending().await;
            };
            let mut found = false;
            // Read until empty, or it stays readable.
            while let Ok(events) = self.0.get_ref().0.read_events() {
                found |= events
                    .iter()
                    .any(|event| event.name.as_deref().is_none_or(&wanted));
            }
            ready.clear_ready();
            if found {
                return;
            }
        }
    }
}

impl fmt::Debug for FolderEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FolderEvents")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn only_a_wanted_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let events = FolderEvents::new(folder.path()).unwrap();
        std::fs::write(folder.path().join("other"), b"").unwrap();
        let wanted = |name: &OsStr| name == "mysqld.sock";
        let early = timeout(Duration::from_millis(50), events.appeared(wanted)).await;
        assert!(early.is_err());
        std::fs::write(folder.path().join("mysqld.sock"), b"").unwrap();
        timeout(Duration::from_secs(10), events.appeared(wanted))
            .await
            .unwrap();
        assert!(FolderEvents::new(&folder.path().join("none")).is_err());
    }
}
