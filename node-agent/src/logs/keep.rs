//! Keeps relay logs for as long as another server may lack what they hold.
//!
//! With `relay_log_purge=1`, the default, a server deletes a relay log as soon as its applier is through with it, and a
//! CHANGE deletes them all. So each one is hard-linked as soon as its file appears, while it is still written: the link
//! grows with it and costs nothing until the server lets go. Where links are impossible (EXDEV, EPERM, ..) a copy
//! follows the file. What is kept is bounded in space and age.
//!
//! Only files this module made are ever deleted by it, and no file the server still has is counted against the limits.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use binlog_core::{LogError, RelayFileName};
use nix::errno::Errno;
use tokio::sync::Notify;

use crate::config::RelayKeep;
use crate::replication::ProtectRelayLogs;
use crate::state::durable::{self, DurableError};

mod copies;
mod journal;
mod listing;
mod source;
#[cfg(test)]
mod tests;
pub mod watch;

pub use source::StreamSource;

use copies::{Copy, follow_copies};
use journal::{FileId, Journal, Kept, Seen, kept_path};
use listing::{in_directory, listed, location_has};

/// Why relay logs could not be kept or listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The server's index of relay logs cannot be used.
    #[error("list of relay logs")]
    Index(#[from] LogError),
    /// The index names a file that is no relay log.
    #[error("index {} names {found:?}, which is no relay log file", index.display())]
    BadEntry {
        /// The index.
        index: PathBuf,
        /// What it names.
        found: String,
    },
    /// The file system refused.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// Where a server's relay logs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLocation {
    /// Their directory.
    pub directory: PathBuf,
    /// What stands before the last dot of their names.
    pub base: String,
    /// The server's list of them.
    pub index: Option<PathBuf>,
}

impl RelayLocation {
    /// From `@@relay_log_basename` and `@@relay_log_index`; `None` if the former is no path to a file.
    pub fn new(basename: &Path, index: Option<PathBuf>) -> Option<Self> {
        Some(Self {
            directory: basename.parent()?.to_path_buf(),
            base: basename.file_name()?.to_str()?.to_owned(),
            index,
        })
    }
}

/// What one pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Files linked now.
    pub linked: usize,
    /// Files whose copy was begun now, since no link was possible.
    pub copied: usize,
    /// Kept files dropped now by the limits.
    pub dropped: usize,
}

/// Keeps the relay logs of one server.
#[derive(Debug)]
pub struct RelayKeeper {
    journal_path: PathBuf,
    copies_folder: PathBuf,
    limits: RelayKeep,
    inner: Mutex<Inner>,
    /// Wakes the loop of [`watch`] when the place becomes known or another: what lies there may be purged any moment.
    relocated: Notify,
}

#[derive(Debug)]
struct Inner {
    journal: Journal,
    /// The journal as it is on disk: one that could not be written is written by the next pass.
    stored: Journal,
    location: Option<RelayLocation>,
    source: Option<SeenSource>,
    /// When the current generation was begun, if that was in this run of the agent.
    born: Option<Instant>,
    copies: HashMap<FileId, Copy>,
    /// How a link is made; tests refuse it here.
    link: fn(&Path, &Path) -> Result<(), Errno>,
}

/// What the channel was seen to read from, and when the question was asked.
#[derive(Debug)]
struct SeenSource {
    source: StreamSource,
    asked: Instant,
}

impl RelayKeeper {
    /// Takes up what was kept before; the journal is in the server's state `folder`.
    pub fn open(folder: &Path, limits: RelayKeep) -> Result<Self, DurableError> {
        let journal_path = folder.join("relay-kept.json");
        let journal: Journal = durable::read_json(&journal_path)?.unwrap_or_default();
        Ok(Self {
            journal_path,
            copies_folder: folder.join("relay-kept"),
            limits,
            inner: Mutex::new(Inner {
                stored: journal.clone(),
                journal,
                location: None,
                source: None,
                born: None,
                copies: HashMap::new(),
                link,
            }),
            relocated: Notify::new(),
        })
    }

    /// Tells where the relay logs are.
    pub fn learn_location(&self, location: RelayLocation) {
        let before = self.lock().location.replace(location.clone());
        if before != Some(location) {
            self.relocated.notify_one();
        }
    }

    /// Returns once [`learn_location`](Self::learn_location) has told another place than before, also if that was before this call. One
    /// loop may wait.
    async fn relocated(&self) {
        self.relocated.notified().await;
    }

    /// Tells what the channel reads from, by an answer to a question that was sent at `asked`.
    pub fn learn_source(&self, source: StreamSource, asked: Instant) {
        let mut inner = self.lock();
        let known = inner
            .source
            .take()
            .map(|seen| seen.source)
            .filter(|known| source.server_id == 0 && known.same_stream(&source));
        // A receiver that is not connected tells no id; the one it told before still holds for the same address.
        inner.source = Some(SeenSource {
            source: known.unwrap_or(source),
            asked,
        });
    }

    /// Where the relay logs are.
    pub fn location(&self) -> Option<RelayLocation> {
        self.lock().location.clone()
    }

    /// Links every relay log that is there now. Call it (in a blocking task) before anything that makes the server
    /// delete relay logs. Returns what was done; nothing if the place is not known yet.
    ///
    /// # Errors
    /// See [`KeepError`]; files linked before the error stay linked.
    pub fn protect_now(&self) -> Result<Pass, KeepError> {
        let mut inner = self.lock();
        let Some(location) = inner.location.clone() else {
            return Ok(Pass::default());
        };
        self.pass(&mut inner, &location)
    }

    fn pass(&self, inner: &mut Inner, location: &RelayLocation) -> Result<Pass, KeepError> {
        let mut pass = Pass::default();
        let kept = self.look(inner, location, &mut pass);
        // Each also after an error of the others: what was linked must be found again, and copies must not fall behind.
        let followed = follow_copies(inner);
        let stored = self.store(inner);
        kept.and(followed).and(stored).map(|()| pass)
    }

    /// Keeps what is new and learns whose stream it is.
    fn look(
        &self,
        inner: &mut Inner,
        location: &RelayLocation,
        pass: &mut Pass,
    ) -> Result<(), KeepError> {
        let kept = keep_new(inner, location, &self.copies_folder, pass);
        if let Some(seen) = &inner.source
            && inner.born.is_none_or(|born| seen.asked >= born)
        {
            inner.journal.learn_source(&seen.source);
        }
        kept
    }

    fn store(&self, inner: &mut Inner) -> Result<(), KeepError> {
        if inner.journal != inner.stored {
            durable::write_json(&self.journal_path, &inner.journal)?;
            inner.stored = inner.journal.clone();
        }
        Ok(())
    }

    /// Drops what the limits do not allow any more, oldest first. Call it now and then, in a blocking task.
    ///
    /// # Errors
    /// See [`KeepError`].
    pub fn enforce_limits(&self, now: SystemTime) -> Result<usize, KeepError> {
        let mut inner = self.lock();
        let Some(location) = inner.location.clone() else {
            return Ok(0);
        };
        let limit_bytes = super::store::file_system_bytes(&location.directory)? / 100
            * u64::from(self.limits.percent_of_disk);
        let mut alone = Vec::new();
        let mut total_bytes: u64 = 0;
        let mut vanished = Vec::new();
        for kept in &inner.journal.kept {
            let Ok(metadata) = fs::metadata(&kept.path) else {
                vanished.push(kept.path.clone());
                continue;
            };
            let server_has_it = if kept.copied {
                location_has(&location, kept)
            } else {
                metadata.nlink() > 1
            };
            if !server_has_it {
                total_bytes = total_bytes.saturating_add(metadata.len());
                alone.push((kept.path.clone(), metadata));
            }
        }
        let mut dropped = Vec::new();
        for (path, metadata) in alone {
            let age = metadata
                .modified()
                .ok()
                .and_then(|changed| now.duration_since(changed).ok())
                .unwrap_or_default();
            if total_bytes <= limit_bytes && age <= self.limits.age {
                continue;
            }
            fs::remove_file(&path).map_err(DurableError::io("remove", &path))?;
            total_bytes = total_bytes.saturating_sub(metadata.len());
            dropped.push(path);
        }
        let count = dropped.len();
        dropped.extend(vanished);
        if !dropped.is_empty() {
            inner.journal.forget(|kept| dropped.contains(&kept.path));
            self.store(&mut inner)?;
        }
        Ok(count)
    }

    /// The sets of relay logs of the current stream: what the server lists together with what was kept, then older
    /// numberings of the same source, newest first. Empty if the place is not known or nothing is there.
    ///
    /// # Errors
    /// See [`KeepError`].
    pub fn sets(&self) -> Result<Vec<Vec<(RelayFileName, PathBuf)>>, KeepError> {
        let mut inner = self.lock();
        let Some(location) = inner.location.clone() else {
            return Ok(Vec::new());
        };
        // So that no listed file is unknown to the journal, nor its generation without a source that is known by now.
        self.look(&mut inner, &location, &mut Pass::default())?;
        // A full disk must not keep anybody from reading what is there.
        let followed = follow_copies(&mut inner);
        for error in [followed, self.store(&mut inner)]
            .into_iter()
            .filter_map(Result::err)
        {
            tracing::warn!(directory = %location.directory.display(), error = crate::error::chain(&error), "relay logs are listed, but not all of them are kept");
        }
        let listed = listed(&location)?;
        Ok(inner.journal.sets(&listed))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The journal is written after each change of it; a panic in between costs a link its entry, nothing else.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProtectRelayLogs for RelayKeeper {
    fn protect(&self, files: &[PathBuf]) -> std::io::Result<()> {
        let unknown = self.location().is_none();
        if let Some(location) = files
            .first()
            .filter(|_| unknown)
            .and_then(|file| RelayLocation::new(&file.with_extension(""), None))
        {
            self.learn_location(location);
        }
        self.protect_now().map_err(std::io::Error::other)?;
        let inner = self.lock();
        for file in files {
            let id = match fs::metadata(file) {
                Ok(metadata) => FileId {
                    device: metadata.dev(),
                    inode: metadata.ino(),
                },
                // The server was faster: it was through with it, and the pass that saw it has kept it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !inner.journal.holds(id) {
                return Err(std::io::Error::other(format!(
                    "{} is not among the relay logs of this server",
                    file.display()
                )));
            }
        }
        Ok(())
    }
}

/// Links or begins to copy every relay log of the directory that is not kept yet; one that cannot be kept does not stand
/// in the way of the others.
fn keep_new(
    inner: &mut Inner,
    location: &RelayLocation,
    copies_folder: &Path,
    pass: &mut Pass,
) -> Result<(), KeepError> {
    let mut first = Ok(());
    for seen in in_directory(location)? {
        if !inner.journal.holds(seen.id) {
            first = first.and(keep_one(inner, location, copies_folder, pass, seen));
        }
    }
    first
}

fn keep_one(
    inner: &mut Inner,
    location: &RelayLocation,
    copies_folder: &Path,
    pass: &mut Pass,
    seen: Seen,
) -> Result<(), KeepError> {
    let source = inner.source.as_ref().map(|seen| &seen.source);
    let (generation, begins) = inner.journal.place(&seen.name, source);
    let mut path = kept_path(&location.directory, generation, &seen.name);
    let copied = match (inner.link)(&seen.path, &path) {
        Ok(()) => false,
        // Deleted between listing and linking: it was there for less than a pass.
        Err(Errno::ENOENT) => return Ok(()),
        // Another file system, none with links, or a directory this user may only read.
        Err(
            Errno::EXDEV
            | Errno::EPERM
            | Errno::EACCES
            | Errno::EROFS
            | Errno::EMLINK
            | Errno::EOPNOTSUPP,
        ) => {
            durable::create_private_directory(copies_folder)?;
            path = kept_path(copies_folder, generation, &seen.name);
            let Some(copy) = Copy::begin(&seen.path, &path)? else {
                return Ok(());
            };
            inner.copies.insert(seen.id, copy);
            true
        }
        Err(errno) => return Err(DurableError::io("link", &path)(errno.into()).into()),
    };
    if copied {
        pass.copied += 1;
    } else {
        pass.linked += 1;
    }
    if begins {
        inner.born = Some(Instant::now());
    }
    inner.journal.enter(Kept {
        name: seen.name,
        path,
        id: seen.id,
        generation,
        copied,
    });
    Ok(())
}

/// A hard link at `to`; one that a crash left there without an entry in the journal is replaced if it is another file.
fn link(from: &Path, to: &Path) -> Result<(), Errno> {
    let once = || {
        fs::hard_link(from, to).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    };
    match once() {
        Err(Errno::EEXIST) => {
            let same = match (fs::metadata(from), fs::metadata(to)) {
                (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
                (Err(_), _) => return Err(Errno::ENOENT),
                _ => false,
            };
            if same {
                return Ok(());
            }
            fs::remove_file(to)
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
            once()
        }
        other => other,
    }
}
