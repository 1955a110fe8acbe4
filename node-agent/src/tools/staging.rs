//! Outputs that appear whole or not at all, and never in the place of another file.
//!
//! A segment and its manifest are made in a private folder beside their place, synced, and then linked to their names,
//! which fails where a file of that name exists by now. The folder goes when the command ends, whatever happened.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use binlog_core::Manifest;

use super::ToolError;

/// A private folder for one output.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    /// The segment inside of it.
    inside: PathBuf,
    output: PathBuf,
}

impl Staging {
    /// Refuses an output that exists, then makes the folder.
    ///
    /// # Errors
    /// [`ToolError::OutputExists`], [`ToolError::Output`].
    pub fn new(output: &Path) -> Result<Self, ToolError> {
        for path in [output.to_owned(), Manifest::path_for(output)] {
            match fs::symlink_metadata(&path) {
                Ok(_) => return Err(ToolError::OutputExists { path }),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(refused("look for", &path)(source)),
            }
        }
        let name = output.file_name().ok_or_else(|| {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidFilename);
            refused("write", output)(source)
        })?;
        let mut private = std::ffi::OsString::from(".");
        private.push(name);
        private.push(format!(".{}.tmp", std::process::id()));
        let folder = directory(output).join(private);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(refused("create", &folder))?;
        Ok(Self {
            inside: folder.join(name),
            folder,
            output: output.to_owned(),
        })
    }

    /// Where to write the segment.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inside
    }

    /// Gives the segment and its manifest, which are whole and synced, their names.
    ///
    /// # Errors
    /// [`ToolError::OutputExists`] where somebody else made the file meanwhile; [`ToolError::Output`].
    pub fn publish(self) -> Result<(), ToolError> {
        let manifest = Manifest::path_for(&self.output);
        // The manifest first: a segment that is there has one.
        link(&Manifest::path_for(&self.inside), &manifest)?;
        let linked = link(&self.inside, &self.output).and_then(|()| {
            let directory = directory(&self.output);
            File::open(directory)
                .and_then(|open| open.sync_all())
                .map_err(refused("sync", directory))
        });
        if linked.is_err() {
            // Made by this call a moment ago; the error that counts is the first one.
            let _ = fs::remove_file(&manifest);
        }
        linked
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "a temporary folder stays behind");
        }
    }
}

fn link(from: &Path, to: &Path) -> Result<(), ToolError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(ToolError::OutputExists {
                path: to.to_owned(),
            })
        }
        // A file system without hard links.
        Err(_) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to).map_err(refused("rename", from))
        }
        Err(source) => Err(refused("link", to)(source)),
    }
}

fn directory(output: &Path) -> &Path {
    output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn refused(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ToolError {
    let path = path.to_owned();
    move |source| ToolError::Output {
        action,
        path,
        source,
    }
}
