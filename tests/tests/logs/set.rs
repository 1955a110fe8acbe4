//! One set of logs, copied from its servers: the primary's binary log and what its replica received of it.

use std::fs;
use std::path::{Path, PathBuf};

use tests::sandbox::{SandboxError, replica};

use super::naive::{self, Place};
use super::stage::Stage;

/// A set of logs.
#[derive(Debug)]
pub(crate) struct LogSet {
    /// What happened.
    pub(crate) name: String,
    /// Folder of the primary's `mysql-bin.*`.
    pub(crate) primary: PathBuf,
    /// Folder of the replica's `relay-bin.*`.
    pub(crate) relay: PathBuf,
    /// Relay logs that are gone from there, kept to know what the others hold.
    pub(crate) gone: Vec<PathBuf>,
    /// Server id of the replica.
    pub(crate) owner: u32,
    /// What the replica had received.
    pub(crate) latest: Place,
}

impl LogSet {
    /// Copies the logs of a cluster whose replica has received all it will.
    pub(crate) async fn take(stage: &Stage, name: &str) -> Result<Self, SandboxError> {
        let folder = stage.scratch().join(name.replace(' ', "-"));
        let (primary, relay) = (folder.join("primary"), folder.join("relay"));
        copy(&stage.primary().datadir(), "mysql-bin.", &primary);
        copy(&stage.replica().datadir(), "relay-bin.", &relay);
        let read = replica::must_status(stage.replica()).await?.read()?;
        let number = naive::number_of(Path::new(&read.file)).unwrap();
        Ok(Self {
            name: format!("{} {name}", stage.label()),
            primary,
            relay,
            gone: Vec::new(),
            owner: stage.replica().server_id(),
            latest: Place::new(number, read.offset),
        })
    }

    /// The relay logs that the index names, oldest first.
    pub(crate) fn relay_logs(&self) -> Vec<PathBuf> {
        let index = fs::read_to_string(self.index()).unwrap();
        let name = |line: &str| line.rsplit('/').next().unwrap().to_owned();
        index
            .lines()
            .map(|line| self.relay.join(name(line)))
            .collect()
    }

    /// Those, and the ones that are gone.
    pub(crate) fn all_relay_logs(&self) -> Vec<PathBuf> {
        // Of two copies of one file the present one is the longer.
        let mut all = [self.relay_logs(), self.gone.clone()].concat();
        all.sort_by_key(|path| naive::number_of(path));
        all.dedup_by_key(|path| naive::number_of(path));
        all
    }

    /// The index of the relay logs.
    pub(crate) fn index(&self) -> PathBuf {
        self.relay.join("relay-bin.index")
    }
}

fn copy(from: &Path, prefix: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with(prefix) {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
