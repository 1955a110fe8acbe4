//! Which relay logs a server has: by its index, or by its directory.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use binlog_core::{LogError, RelayFileName};

use super::journal::{FileId, Kept, Seen};
use super::{KeepError, RelayLocation};
use crate::state::durable::DurableError;

/// Whether the server's directory still has the file of this entry under its name.
pub(super) fn location_has(location: &RelayLocation, kept: &Kept) -> bool {
    fs::metadata(location.directory.join(kept.name.as_str()))
        .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (kept.id.device, kept.id.inode))
}

/// Relay logs in the directory, by number.
pub(super) fn in_directory(location: &RelayLocation) -> Result<Vec<Seen>, KeepError> {
    let directory = &location.directory;
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(DurableError::io("read", directory))? {
        let entry = entry.map_err(DurableError::io("read", directory))?;
        let Some(name) = relay_name(&entry.file_name(), &location.base) else {
            continue;
        };
        if let Some(seen) = look(name, entry.path()) {
            found.push(seen);
        }
    }
    found.sort_by_key(|seen| seen.name.sequence());
    Ok(found)
}

/// Relay logs the server lists, in its order; without an index those of the directory.
pub(super) fn listed(location: &RelayLocation) -> Result<Vec<Seen>, KeepError> {
    let Some(index) = &location.index else {
        return in_directory(location);
    };
    let paths = match binlog_core::read_index(index) {
        Ok(paths) => paths,
        // MySQL deletes it when it purges relay logs, and then gives its name to a new one.
        Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return in_directory(location);
        }
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for path in paths {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| KeepError::BadEntry {
                index: index.clone(),
                found: path.display().to_string(),
            })?;
        // An entry may outlive its file by a moment: the server deletes the file first.
        found.extend(look(name, path));
    }
    Ok(found)
}

fn look(name: RelayFileName, path: PathBuf) -> Option<Seen> {
    let metadata = fs::metadata(&path).ok().filter(|m| m.is_file())?;
    Some(Seen {
        name,
        path,
        id: FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        },
    })
}

/// `name` if it is a relay log of this base.
fn relay_name(name: &OsStr, base: &str) -> Option<RelayFileName> {
    let name: RelayFileName = name.to_str()?.parse().ok()?;
    (name.base() == base).then_some(name)
}
