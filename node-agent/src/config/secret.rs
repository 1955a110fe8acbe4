//! Secrets in files: read when used, refused when others could read them, never printed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// Longest accepted secret in bytes; a larger file is no password.
const LONGEST: u64 = 4096;

/// A password. Its `Debug` form shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password that came from elsewhere than a file.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The password itself, for the one place that sends or stores it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A file that holds a secret on its first line.
///
/// The mode is checked at each read, not only at the start: a file may be replaced while the agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    key: String,
    path: PathBuf,
}

impl SecretFile {
    /// Names the file; `key` is the configuration key for messages.
    pub(super) fn new(key: String, path: PathBuf) -> Self {
        Self { key, path }
    }

    /// Where the secret is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the secret: the file's contents without the line end. A small synchronous read.
    pub fn read(&self) -> Result<Secret, ConfigError> {
        let failed = |source| ConfigError::File {
            key: self.key.clone(),
            path: self.path.clone(),
            source,
        };
        let file = File::open(&self.path).map_err(failed)?;
        check_private(&self.key, &self.path, &file)?;
        let mut text = String::new();
        file.take(LONGEST)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// Refuses a file that is not a regular one or that group or others may access.
pub(super) fn check_private(key: &str, path: &Path, file: &File) -> Result<(), ConfigError> {
    let metadata = file.metadata().map_err(|source| ConfigError::File {
        key: key.to_owned(),
        path: path.to_path_buf(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(ConfigError::BadPath {
            key: key.to_owned(),
            expected: "a regular file",
            path: path.to_path_buf(),
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::SecretExposed {
            key: key.to_owned(),
            path: path.to_path_buf(),
            mode,
        });
    }
    Ok(())
}
