//! Secrets from files: readable by their owner only, never shown.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::ConfigError;

/// A secret text; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret that did not come from a file.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The first line of a file that group and others have no access to.
pub(super) fn read(path: &Path) -> Result<Secret, ConfigError> {
    let whole = read_whole(path)?;
    Ok(Secret(
        whole.0.lines().next().unwrap_or_default().to_owned(),
    ))
}

/// All of a file that group and others have no access to. The mode is taken from the opened file, so that it cannot be
/// exchanged in between.
pub(super) fn read_whole(path: &Path) -> Result<Secret, ConfigError> {
    /// A password, or a private key of any size in use.
    const LIMIT: u64 = 64 << 10;
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::SecretMode {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    Ok(Secret(text))
}
