//! Appends records, each durable before the caller goes on.
//!
//! Records of steps that run at the same time share one fsync: a writer thread takes everything that waits, writes it,
//! syncs once and answers all. After a failed write nothing more is accepted: an act that cannot be recorded is not done.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{mpsc, oneshot};

use super::{JournalError, Record, folder, read};

/// Called around each write of a record: the one place where a test can count writes and stop the run.
pub trait Hook: Send + Sync + 'static {
    /// Before the record is written. `false` stops the run as a crash would: the record is not written.
    fn before(&self, record: &Record) -> bool;
    /// After the record is durable. `false` stops the run as a crash would: the record stands.
    fn after(&self, record: &Record) -> bool;
}

/// The hook of real life.
#[derive(Debug, Clone, Copy)]
pub struct NoHook;

impl Hook for NoHook {
    fn before(&self, _record: &Record) -> bool {
        true
    }

    fn after(&self, _record: &Record) -> bool {
        true
    }
}

type Answer = oneshot::Sender<Result<(), JournalError>>;

/// An open journal. Clones write to the same file.
#[derive(Clone)]
pub struct Journal {
    path: Arc<Path>,
    queue: mpsc::UnboundedSender<(Vec<u8>, Answer)>,
    hook: Arc<dyn Hook>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Creates the journal of a new operation and locks it.
    ///
    /// # Errors
    /// [`JournalError`], also if the file exists.
    pub fn create(
        state_dir: &Path,
        cluster: &str,
        operation: &str,
        hook: Arc<dyn Hook>,
    ) -> Result<Self, JournalError> {
        let dir = folder(state_dir, cluster);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|source| JournalError::io(&dir, source))?;
        let path = dir.join(format!("{operation}.journal"));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| JournalError::io(&path, source))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| JournalError::io(&path, errno.into()))?;
        File::open(&dir)
            .and_then(|d| d.sync_all())
            .map_err(|source| JournalError::io(&dir, source))?;
        Self::writing(path, file, hook)
    }

    fn writing(
        path: PathBuf,
        file: Flock<File>,
        hook: Arc<dyn Hook>,
    ) -> Result<Self, JournalError> {
        let (queue, waiting) = mpsc::unbounded_channel();
        let path: Arc<Path> = path.into();
        let writer_path = path.clone();
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_all(&writer_path, file, waiting))
            .map_err(|source| JournalError::io(&path, source))?;
        Ok(Self { path, queue, hook })
    }

    /// What stands around its writes.
    pub fn hook(&self) -> Arc<dyn Hook> {
        self.hook.clone()
    }

    /// File of the journal.
    pub fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    /// Appends a record and waits until it is durable.
    ///
    /// # Errors
    /// [`JournalError`]: the act that the record announces must not be done.
    pub async fn append(&self, record: &Record) -> Result<(), JournalError> {
        let closed = || JournalError::Closed {
            path: self.path.to_path_buf(),
        };
        if !self.hook.before(record) {
            return Err(closed());
        }
        let line = encode(&self.path, record)?;
        let (answer, done) = oneshot::channel();
        self.queue.send((line, answer)).map_err(|_| closed())?;
        done.await.map_err(|_| closed())??;
        if self.hook.after(record) {
            Ok(())
        } else {
            Err(closed())
        }
    }
}

/// Opens the journal of an interrupted operation, to say at its end what became of it. A torn last record is cut off: it
/// was never acknowledged, and whatever followed it would make the journal unreadable.
///
/// # Errors
/// [`JournalError`]; also if its operation runs, or it is damaged elsewhere.
pub fn reopen(path: &Path, hook: Arc<dyn Hook>) -> Result<Journal, JournalError> {
    let io = |source| JournalError::io(path, source);
    let file = OpenOptions::new().append(true).open(path).map_err(io)?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| JournalError::io(path, errno.into()))?;
    if let Some(torn_at) = read(path)?.torn_at {
        file.set_len(torn_at).map_err(io)?;
        file.sync_all().map_err(io)?;
    }
    Journal::writing(path.to_owned(), file, hook)
}

pub(super) fn encode(path: &Path, record: &Record) -> Result<Vec<u8>, JournalError> {
    let json = serde_json::to_vec(record).map_err(|source| JournalError::Encode {
        path: path.to_owned(),
        source,
    })?;
    let mut line = format!("{:08x} {:08x} ", json.len(), crc32fast::hash(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// Ends when the journal and all its clones are dropped, or after a failed write.
fn write_all(
    path: &Path,
    mut file: Flock<File>,
    mut waiting: mpsc::UnboundedReceiver<(Vec<u8>, Answer)>,
) {
    while let Some((line, answer)) = waiting.blocking_recv() {
        let mut bytes = line;
        let mut answers = vec![answer];
        while let Ok((line, answer)) = waiting.try_recv() {
            bytes.extend_from_slice(&line);
            answers.push(answer);
        }
        let written = file
            .write_all(&bytes)
            .and_then(|()| nix::unistd::fdatasync(file.as_fd()).map_err(std::io::Error::from));
        let failed = written.is_err();
        for answer in answers {
            let result = match &written {
                Ok(()) => Ok(()),
                Err(e) => Err(JournalError::io(
                    path,
                    std::io::Error::new(e.kind(), e.to_string()),
                )),
            };
            // A caller that no longer waits has been cancelled; the record stands all the same.
            let _ = answer.send(result);
        }
        if failed {
            return;
        }
    }
}
