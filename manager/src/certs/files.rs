//! Files of certificates and keys: they appear whole or not at all, keys readable by their owner only, and nothing
//! that exists is ever replaced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::CertsError;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// 0600: a private key.
    Private,
    /// 0644: a certificate.
    Public,
}

/// Creates the directory (0700) with its parents if it is not there.
pub(super) fn create_dir(dir: &Path) -> Result<(), CertsError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| CertsError::io(dir, source))
}

/// Refuses if any of the files exists, before the first is written.
pub(super) fn refuse_existing(paths: &[PathBuf]) -> Result<(), CertsError> {
    for path in paths {
        match path.symlink_metadata() {
            Ok(_) => return Err(CertsError::Exists { path: path.clone() }),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(CertsError::io(path, source)),
        }
    }
    Ok(())
}

/// Writes a new file: temporary file, fsync, hard link (which fails if the name exists), fsync of the directory.
pub(super) fn write_new(path: &Path, secrecy: Secrecy, text: &str) -> Result<(), CertsError> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = dir.join(name);
    let written = write_temporary(&temporary, secrecy, text)
        .map_err(|source| CertsError::io(&temporary, source))
        .and_then(|()| {
            std::fs::hard_link(&temporary, path).map_err(|source| match source.kind() {
                ErrorKind::AlreadyExists => CertsError::Exists {
                    path: path.to_path_buf(),
                },
                _ => CertsError::io(path, source),
            })
        });
    let removed = std::fs::remove_file(&temporary);
    written?;
    removed.map_err(|source| CertsError::io(&temporary, source))?;
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|source| CertsError::io(dir, source))
}

fn write_temporary(path: &Path, secrecy: Secrecy, text: &str) -> std::io::Result<()> {
    let mode = match secrecy {
        Secrecy::Private => 0o600,
        Secrecy::Public => 0o644,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Reads a small text file; certificates and keys are far below the limit.
pub(super) fn read_small(path: &Path) -> Result<String, CertsError> {
    const LIMIT: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)
        .and_then(|f| f.take(LIMIT).read_to_string(&mut text))
        .map_err(|source| CertsError::io(path, source))?;
    Ok(text)
}
