//! The per-user cache: `$MHA_SANDBOX_CACHE`, else `$XDG_CACHE_HOME/mha-sandbox`, else `~/.cache/mha-sandbox`.
//!
//! Guarantees that a folder in it is complete or absent (it appears by rename), and that two processes never fill the
//! same one at a time (file locks, released by the kernel however a process ends).

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::SandboxError;

/// The cache folder, created if it is missing.
pub fn root() -> Result<PathBuf, SandboxError> {
    let path = match std::env::var_os("MHA_SANDBOX_CACHE") {
        Some(path) => PathBuf::from(path),
        None => std::env::var_os("XDG_CACHE_HOME")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .unwrap_or_else(std::env::temp_dir)
            .join("mha-sandbox"),
    };
    fs::create_dir_all(&path).map_err(SandboxError::io("create", &path))?;
    path.canonicalize()
        .map_err(SandboxError::io("resolve", &path))
}

/// A lock that lives as long as the value, and no longer than the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn lock_file(name: &str) -> Result<(File, PathBuf), SandboxError> {
    let folder = root()?.join("locks");
    fs::create_dir_all(&folder).map_err(SandboxError::io("create", &folder))?;
    let path = folder.join(format!("{name}.lock"));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(SandboxError::io("open", &path))?;
    Ok((file, path))
}

/// Waits for the lock `name`. Says so when another process holds it.
pub fn lock(name: &str) -> Result<Lock, SandboxError> {
    let (file, path) = lock_file(name)?;
    if let Ok(()) = file.try_lock() {
        return Ok(Lock { _file: file });
    }
    super::progress(&format!("waiting for another process that prepares {name}"));
    file.lock().map_err(SandboxError::io("lock", &path))?;
    Ok(Lock { _file: file })
}

/// Takes the lock `name` if nobody has it.
pub fn try_lock(name: &str) -> Result<Option<Lock>, SandboxError> {
    let (file, path) = lock_file(name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(SandboxError::Io {
            action: "lock",
            path,
            source,
        }),
    }
}

/// Fills a scratch folder beside `target` and renames it into place. The caller holds the lock of `target`.
pub fn build(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    let parent = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(SandboxError::io("create", parent))?;
    let scratch = tempfile::Builder::new()
        .prefix(".building-")
        .tempdir_in(parent)
        .map_err(SandboxError::io("create a folder in", parent))?;
    fill(scratch.path())?;
    // Left by an earlier version of the sandbox; whoever used it has its own copies.
    if target.exists() {
        fs::remove_dir_all(target).map_err(SandboxError::io("remove", target))?;
    }
    let scratch = scratch.keep();
    fs::rename(&scratch, target).map_err(SandboxError::io("rename into", target))
}

/// Copies a folder of files and folders. Links are not expected in it.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), SandboxError> {
    fs::create_dir_all(to).map_err(SandboxError::io("create", to))?;
    for entry in fs::read_dir(from).map_err(SandboxError::io("list", from))? {
        let entry = entry.map_err(SandboxError::io("list", from))?;
        let target = to.join(entry.file_name());
        let kind = entry
            .file_type()
            .map_err(SandboxError::io("inspect", &entry.path()))?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).map_err(SandboxError::io("copy to", &target))?;
        }
    }
    Ok(())
}
