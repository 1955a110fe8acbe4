//! One process at a time acts on a state folder: the agent, or a command by hand that replays logs.
//!
//! The lock is the kernel's, on a file of the folder, so it ends with its holder however that ends. The file says who it
//! is, for people.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::durable::DurableError;

/// Name of the file.
const FILE: &str = "lock";

/// Why the folder is not ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else holds it.
    #[error("{} is locked by pid {pid}: an agent runs on this host, or a command replays logs", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who, as far as the file says.
        pid: String,
    },
    /// The folder or the file cannot be used.
    #[error(transparent)]
    State(#[from] DurableError),
}

/// The lock; it ends with the value.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of a folder that exists.
    ///
    /// # Errors
    /// [`LockError::Held`]; a file that cannot be made.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(DurableError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only to name the holder.
                let _ = file.read_to_string(&mut pid);
                let pid = match pid.trim() {
                    "" => "unknown".to_owned(),
                    pid => pid.to_owned(),
                };
                return Err(LockError::Held { path, pid });
            }
            Err(TryLockError::Error(source)) => {
                return Err(DurableError::io("lock", &path)(source).into());
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(DurableError::io("write", &path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_who_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let held = StateLock::take(folder.path()).unwrap();
        let refused = StateLock::take(folder.path()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("pid {}", std::process::id())),
            "{refused}"
        );
        drop(held);
        StateLock::take(folder.path()).unwrap();
    }
}
