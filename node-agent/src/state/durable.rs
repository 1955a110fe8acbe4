//! Small files that appear whole or not at all.
//!
//! A reader of `path` sees the old contents or the new ones, never a mixture, and after [`write()`] has returned the
//! new ones survive a power cut: the bytes are synced before the rename, the directory after it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a state file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried: `write`, `read`, `sync`, `rename`, `create`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it was refused.
        #[source]
        source: std::io::Error,
    },
    /// The file is there but not what this program wrote: torn by other means, or edited.
    #[error("{} is not a state file of this program", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The path has no directory or no file name.
    #[error("{} does not name a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
}

impl DurableError {
    /// Names what was being done to `path` when `source` happened; for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Numbers the temporary files of this process.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Replaces the file at `path` with `bytes`, readable by its owner only (mode 0600). Blocks for two syncs.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(DurableError::NotAFile {
            path: path.to_path_buf(),
        });
    };
    // Two calls at once for the same file (two segments that arrive for one operation) must not share a temporary.
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut temporary = name.to_os_string();
    temporary.push(format!(".{number}.new"));
    let temporary = directory.join(temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(DurableError::io("create", &temporary))?;
    file.write_all(bytes)
        .map_err(DurableError::io("write", &temporary))?;
    file.sync_all()
        .map_err(DurableError::io("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(DurableError::io("rename", &temporary))?;
    sync_directory(directory)
}

/// [`write()`] of a value as JSON.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), DurableError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| DurableError::Malformed {
        path: path.to_path_buf(),
        source,
    })?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Reads a value that [`write_json`] wrote; `None` if there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DurableError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DurableError::io("read", path)(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| DurableError::Malformed {
            path: path.to_path_buf(),
            source,
        })
}

/// Removes the file at `path` and syncs its directory; `false` if there was none.
pub fn remove(path: &Path) -> Result<bool, DurableError> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(DurableError::io("remove", path)(error)),
    }
    if let Some(directory) = path.parent() {
        sync_directory(directory)?;
    }
    Ok(true)
}

/// Makes creations, renames and removals inside `directory` survive a power cut.
pub fn sync_directory(directory: &Path) -> Result<(), DurableError> {
    File::open(directory)
        .and_then(|handle| handle.sync_all())
        .map_err(DurableError::io("sync", directory))
}

/// Creates `directory` and what is missing above it, accessible by the owner only (mode 0700).
pub fn create_private_directory(directory: &Path) -> Result<(), DurableError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(DurableError::io("create", directory))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn writes_of_the_same_file_at_once_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operation.json");
        std::thread::scope(|scope| {
            for number in 0..8_u32 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write_json(path, &number).unwrap();
                    }
                });
            }
        });
        assert!(read_json::<u32>(&path).unwrap().unwrap() < 8);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_value_comes_back_as_it_was_written_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epoch.json");
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), None);
        write_json(&path, &vec![1_u32, 2]).unwrap();
        write_json(&path, &vec![3_u32]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_left_over_temporary_file_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hold.json");
        fs::write(folder.path().join("hold.json.new"), b"{ torn").unwrap();
        write_json(&path, &7_u8).unwrap();
        assert_eq!(read_json::<u8>(&path).unwrap(), Some(7));
    }

    #[test]
    fn a_torn_file_is_an_error_and_not_an_absent_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hold.json");
        fs::write(&path, b"{\"operation\": \"o").unwrap();
        let error = read_json::<serde_json::Value>(&path).unwrap_err();
        assert!(matches!(error, DurableError::Malformed { .. }), "{error}");
    }
}
