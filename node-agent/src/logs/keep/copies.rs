//! Copies that follow their relay logs, where links are impossible.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::journal::FileId;
use super::listing::location_has;
use super::{Inner, KeepError};
use crate::state::durable::DurableError;

/// A copy that follows its file. The open handle reads on after the server has deleted the name.
#[derive(Debug)]
pub(super) struct Copy {
    from: File,
    to: File,
}

impl Copy {
    /// Begins a copy of the file at `from`; `None` if it is gone already.
    pub(super) fn begin(from: &Path, to: &Path) -> Result<Option<Self>, DurableError> {
        let from = match File::open(from) {
            Ok(from) => from,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DurableError::io("open", from)(error)),
        };
        let to = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(to)
            .map_err(DurableError::io("create", to))?;
        Ok(Some(Self { from, to }))
    }

    /// Writes to it fail until the agent's next start, as on a full disk.
    #[cfg(test)]
    pub(super) fn break_for_test(&mut self, path: &Path) {
        self.to = File::open(path).unwrap();
    }
}

/// Appends to each copy what its file has gained; takes up copies of an earlier run whose file is still there.
///
/// # Errors
/// The first; the other copies are followed all the same.
pub(super) fn follow_copies(inner: &mut Inner) -> Result<(), KeepError> {
    let mut first = Ok(());
    let mut behind = Vec::new();
    for kept in inner.journal.kept.iter().filter(|kept| kept.copied) {
        if !inner.copies.contains_key(&kept.id)
            && let Some(location) = &inner.location
            && location_has(location, kept)
        {
            let original = location.directory.join(kept.name.as_str());
            if let (Ok(from), Ok(to)) = (
                File::open(&original),
                OpenOptions::new().append(true).open(&kept.path),
            ) {
                inner.copies.insert(kept.id, Copy { from, to });
            }
        }
        if let Some(copy) = inner.copies.get_mut(&kept.id)
            && let Err(error) = append_news(copy).map_err(DurableError::io("copy", &kept.path))
        {
            behind.push(kept.id);
            first = first.and(Err(error.into()));
        }
    }
    // Deleted by the server and read to its end: no more will come, and the inode may be given to another file.
    let Inner {
        copies,
        journal,
        location,
        ..
    } = inner;
    copies.retain(|id, copy| {
        // A handle may be all that is left of a file whose copy is behind, on a full disk for instance.
        behind.contains(id) || copy.from.metadata().is_ok_and(|m| m.nlink() > 0)
    });
    for kept in journal.kept.iter_mut().filter(|kept| kept.copied) {
        let gone = location
            .as_ref()
            .is_some_and(|location| !location_has(location, kept));
        if gone && !copies.contains_key(&kept.id) {
            kept.id = FileId::NONE;
        }
    }
    first
}

fn append_news(copy: &mut Copy) -> std::io::Result<()> {
    let done = copy.to.metadata()?.len();
    copy.to.seek(SeekFrom::End(0))?;
    copy.from.seek(SeekFrom::Start(done))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = copy.from.read(&mut buffer)?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => copy.to.write_all(bytes)?,
            _ => return Ok(()),
        }
    }
}
