//! Whether a directory of mysqld still takes writes: a small file of ours is written and synced there.
//!
//! A stalled disk blocks the caller in the kernel, where nothing can end it. So each directory has one thread of its own that
//! does nothing else, and gets the next order only after it has come back: one probe in flight at most, one thread at most.
//! A directory is probed as soon as it is known, then once in each interval; a probe that comes back, however late, says that
//! the disk is slow and not that it stands still, and the next one is counted from its own beginning.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::watch::{Disk, DiskState};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::patience::{self, Patience, SILENT_AFTER};
use super::{Facts, HANGS, ServerWatch};
use crate::agent::LocalServer;

/// Name of the file; a leading dot keeps it out of what servers take for databases.
pub const FILE: &str = ".mha-probe";
/// Pause after a probe that could not be made, unless the directory becomes another one.
const PAUSE_OFF: Duration = Duration::from_secs(5);

/// Which directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Datadir,
    /// The binary log's, if that is another one.
    BinlogDir,
}

impl Place {
    fn directory(self, server: &LocalServer) -> Option<PathBuf> {
        let datadir = server.datadir();
        match self {
            Self::Datadir => datadir,
            Self::BinlogDir => {
                let known = server.remembered()?;
                let folder = known.log_bin_basename?.parent()?.to_path_buf();
                (Some(&folder) != datadir.as_ref()).then_some(folder)
            }
        }
    }

    fn slot(self, facts: &mut Facts) -> Option<&mut Disk> {
        match self {
            Self::Datadir => Some(&mut facts.datadir),
            Self::BinlogDir => facts.binlog_dir.as_mut(),
        }
    }
}

pub(super) async fn run(server: Arc<LocalServer>, place: Place, stop: CancellationToken) {
    let watch = &server.watch;
    let name = &server.config.name;
    let mut learnt = watch.learnt.subscribe();
    let mut prober: Option<Prober> = None;
    let mut patience = Patience::default();
    loop {
        let probed = place.directory(&server);
        let pause = match (server.config.disk_probe, probed.clone()) {
            (None, directory) => {
                learn(watch, place, directory, off("switched off"));
                return;
            }
            (Some(_), None) => {
                learn(watch, place, None, off("the directory is not known"));
                PAUSE_OFF
            }
            (Some(interval), Some(directory)) => {
                let one = probe_by_thread(&mut prober, &directory);
                let mut slow = None;
                let silent = |silent| {
                    is_silent(watch, place, &directory, silent);
                    if silent >= HANGS && slow.replace(silent).is_none() {
                        tracing::warn!(server = name, directory = %directory.display(), ?silent, "a small write and its sync do not complete: the disk is slow, or stands still");
                    }
                };
                let state = tokio::select! {
                    () = stop.cancelled() => return,
                    state = patience::attend(&mut patience, one, silent) => state,
                };
                patience.over();
                if let Some(after) = slow {
                    tracing::warn!(server = name, directory = %directory.display(), ?after, ?state, "the write came back");
                }
                let pause = match state {
                    DiskState::Off { .. } => PAUSE_OFF.max(interval),
                    _ => interval,
                };
                learn(watch, place, Some(directory), state);
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = became_another(&mut learnt, || place.directory(&server) != probed) => {}
            () = sleep(pause) => {}
        }
    }
}

/// Until the server has said of itself that its directory is another one, or which it is at all.
async fn became_another(learnt: &mut watch::Receiver<()>, is_another: impl Fn() -> bool) {
    while learnt.changed().await.is_ok() {
        if is_another() {
            return;
        }
    }
    std::future::pending().await
}

/// The thread and its two ends. Dropped, the thread ends with its probe.
#[derive(Debug)]
struct Prober {
    orders: std::sync::mpsc::Sender<PathBuf>,
    answers: mpsc::Receiver<DiskState>,
}

impl Prober {
    fn start() -> io::Result<Self> {
        let (orders, to_do) = std::sync::mpsc::channel::<PathBuf>();
        let (done, answers) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("disk-probe".to_owned())
            .spawn(move || {
                while let Ok(directory) = to_do.recv() {
                    if done.blocking_send(state_of(probe(&directory))).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { orders, answers })
    }
}

/// One probe. Never cancelled but with the agent: a thread that is still busy must not get a second order.
async fn probe_by_thread(prober: &mut Option<Prober>, directory: &Path) -> DiskState {
    let thread = match prober {
        Some(thread) => thread,
        None => match Prober::start() {
            Ok(thread) => prober.insert(thread),
            Err(error) => return off(format!("no thread for it: {error}")),
        },
    };
    let answer = match thread.orders.send(directory.to_path_buf()) {
        Ok(()) => thread.answers.recv().await,
        Err(_) => None,
    };
    answer.unwrap_or_else(|| {
        *prober = None;
        off("its thread ended")
    })
}

/// Writes and syncs the file; how long that took.
fn probe(directory: &Path) -> io::Result<Duration> {
    let began = Instant::now();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(FILE))?;
    // Other bytes each time, so that there is something to sync.
    file.write_all(&super::clock::boottime().as_nanos().to_le_bytes())?;
    file.sync_all()?;
    Ok(began.elapsed())
}

fn state_of(probed: io::Result<Duration>) -> DiskState {
    match probed {
        Ok(took) => DiskState::Ok { took },
        // Not ours to write: says nothing about the disk.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::NotFound
            ) =>
        {
            off(format!("the agent cannot write there: {error}"))
        }
        Err(error) => DiskState::Error {
            text: error.to_string(),
        },
    }
}

fn off(reason: impl Into<String>) -> DiskState {
    DiskState::Off {
        reason: reason.into(),
    }
}

fn learn(watch: &ServerWatch, place: Place, directory: Option<PathBuf>, state: DiskState) {
    watch.update(|facts| {
        if place == Place::BinlogDir {
            match &directory {
                // The data directory, or not known.
                None => return facts.binlog_dir.take().is_some(),
                Some(directory) => {
                    facts.binlog_dir.get_or_insert_with(|| Disk {
                        directory: Some(directory.clone()),
                        state: off("not tried yet"),
                    });
                }
            }
        }
        let Some(slot) = place.slot(facts) else {
            return false;
        };
        let news = slot.directory != directory
            || std::mem::discriminant(&slot.state) != std::mem::discriminant(&state);
        *slot = Disk { directory, state };
        news
    });
}

fn is_silent(watch: &ServerWatch, place: Place, directory: &Path, silent: Duration) {
    if silent >= SILENT_AFTER {
        let directory = Some(directory.to_path_buf());
        learn(watch, place, directory, DiskState::NoCompletion { silent });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_probed_by_one_thread_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut prober = None;
        for _ in 0..3 {
            let state = probe_by_thread(&mut prober, folder.path()).await;
            assert!(matches!(state, DiskState::Ok { .. }), "{state:?}");
        }
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [FILE]);
        let gone = probe_by_thread(&mut prober, &folder.path().join("none")).await;
        assert!(matches!(gone, DiskState::Off { .. }), "{gone:?}");
    }

    #[tokio::test]
    async fn a_pause_ends_when_the_directory_becomes_another_one_and_not_before() {
        let eyes = ServerWatch::new();
        let mut learnt = eyes.learnt.subscribe();
        let is_another = std::sync::atomic::AtomicBool::new(false);
        let another = || is_another.load(std::sync::atomic::Ordering::Relaxed);
        eyes.server_told();
        {
            let mut pause = std::pin::pin!(became_another(&mut learnt, another));
            assert!(futures::poll!(&mut pause).is_pending());
            eyes.server_told();
            assert!(futures::poll!(&mut pause).is_pending());
        }
        // Told between two pauses: the next one sees it at once.
        is_another.store(true, std::sync::atomic::Ordering::Relaxed);
        eyes.server_told();
        let pause = std::pin::pin!(became_another(&mut learnt, another));
        assert!(futures::poll!(pause).is_ready());
    }

    #[test]
    fn what_is_not_ours_to_write_is_off_and_a_failing_disk_is_an_error() {
        let error = |number| state_of(Err(io::Error::from_raw_os_error(number)));
        for (number, is_off) in [
            (nix::libc::EACCES, true),
            (nix::libc::EPERM, true),
            (nix::libc::ENOENT, true),
            (nix::libc::EIO, false),
            (nix::libc::EROFS, false),
            (nix::libc::ENOSPC, false),
        ] {
            let state = error(number);
            assert_eq!(matches!(state, DiskState::Off { .. }), is_off, "{state:?}");
        }
    }

    /// A FIFO that nobody reads blocks whoever opens it, as a stalled disk does.
    #[tokio::test]
    async fn a_probe_that_does_not_come_back_is_told_while_it_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join(FILE);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let watch = Arc::new(ServerWatch::new());
        let mut news = watch.subscribe();
        let (eyes, directory) = (Arc::clone(&watch), folder.path().to_path_buf());
        let probing = tokio::spawn(async move {
            let (mut patience, mut prober) = (Patience::default(), None);
            let one = probe_by_thread(&mut prober, &directory);
            patience::attend(&mut patience, one, |silent| {
                is_silent(&eyes, Place::Datadir, &directory, silent);
            })
            .await
        });
        let limit = Duration::from_secs(10);
        let stalled = news.wait_for(|facts| {
            matches!(facts.datadir.state, DiskState::NoCompletion { silent } if silent >= SILENT_AFTER)
        });
        tokio::time::timeout(limit, stalled).await.unwrap().unwrap();
        assert!(!probing.is_finished());
        // It comes to life: what was written cannot be synced on a FIFO, which is an error and an end.
        let reader = tokio::task::spawn_blocking(move || std::fs::File::open(fifo));
        let state = tokio::time::timeout(limit, probing).await.unwrap().unwrap();
        assert!(matches!(state, DiskState::Error { .. }), "{state:?}");
        reader.await.unwrap().unwrap();
    }
}
