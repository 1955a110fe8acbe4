//! A data directory whose disk stands still on command, for mysqld and its agent alike, without root.
//!
//! A small library is preloaded into both (`stall.c`): writes to files of the directory and their fsync do not return while
//! a flag file exists. Everything else goes on, the binary log on "another disk" included.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::error::SandboxError;
use super::tool;

/// How long the compiler may take.
const COMPILE: Duration = Duration::from_secs(60);

/// The disk.
#[derive(Debug, Clone)]
pub struct StallingDisk {
    library: PathBuf,
    flag: PathBuf,
    directory: PathBuf,
}

impl StallingDisk {
    /// A disk for the files below `directory`; what it needs is made in `dir`.
    pub fn make(dir: &Path, directory: &Path) -> Result<Self, SandboxError> {
        let (source, library) = (dir.join("stall.c"), dir.join("stall.so"));
        fs::write(&source, include_str!("stall.c")).map_err(SandboxError::io("write", &source))?;
        let mut command = Command::new("cc");
        command
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl");
        tool::run(command, None, COMPILE)?;
        Ok(Self {
            library,
            flag: dir.join("stalled"),
            directory: directory.to_owned(),
        })
    }

    /// What the environment of a program must hold that uses it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("MHA_STALL_FLAG".to_owned(), text(&self.flag)),
            ("MHA_STALL_DIR".to_owned(), text(&self.directory)),
        ]
    }

    /// From now on no write completes.
    pub fn stall(&self) -> Result<(), SandboxError> {
        fs::write(&self.flag, "").map_err(SandboxError::io("write", &self.flag))
    }

    /// From now on writes complete again, those that waited included.
    pub fn resume(&self) -> Result<(), SandboxError> {
        fs::remove_file(&self.flag).map_err(SandboxError::io("remove", &self.flag))
    }
}
