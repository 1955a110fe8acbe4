//! Which relay logs were kept, and which of them belong to one stream.
//!
//! A server starts its relay logs again at number 1 when its channel is pointed elsewhere, so a name alone says nothing.
//! Files of one numbering are a *generation*; a generation belongs to one source. Only the newest generation and older
//! ones of the same source are offered as provider, and binlog-core's walk has the last word on their continuity.

use std::path::{Path, PathBuf};

use binlog_core::RelayFileName;
use serde::{Deserialize, Serialize};

use super::StreamSource;

/// A relay log as the directory shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its name.
    pub(super) name: RelayFileName,
    /// Its path.
    pub(super) path: PathBuf,
    /// What it is, whatever it is called.
    pub(super) id: FileId,
}

/// A file of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileId {
    /// Device.
    pub(super) device: u64,
    /// Inode.
    pub(super) inode: u64,
}

impl FileId {
    /// No file; device 0 is never mounted.
    pub(super) const NONE: Self = Self {
        device: 0,
        inode: 0,
    };
}

/// One kept relay log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// Name the server gave it.
    pub(super) name: RelayFileName,
    /// Our link or copy.
    pub(super) path: PathBuf,
    /// The server's file.
    pub(super) id: FileId,
    /// Numbering it belongs to.
    pub(super) generation: u64,
    /// It is a copy, not a link.
    pub(super) copied: bool,
}

/// One numbering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Generation {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Whose stream it holds; `None` until the server has said.
    pub(super) source: Option<StreamSource>,
    /// Highest relay log number seen.
    pub(super) highest: u64,
}

/// Everything kept of one server; oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// Numberings, oldest first; the last one is current.
    pub(super) generations: Vec<Generation>,
    /// Kept files, oldest first.
    pub(super) kept: Vec<Kept>,
}

impl Journal {
    /// Whether this file is kept already.
    pub(super) fn holds(&self, id: FileId) -> bool {
        self.kept.iter().any(|kept| kept.id == id)
    }

    /// The generation a file that was not seen before belongs to, and whether it begins with it. `source` is what the
    /// channel was last seen to read from.
    pub(super) fn place(&self, name: &RelayFileName, source: Option<&StreamSource>) -> (u64, bool) {
        let Some(current) = self.generations.last() else {
            return (1, true);
        };
        let renumbered = name.sequence() <= current.highest;
        let other_source = match (&current.source, source) {
            (Some(before), Some(now)) => !before.same_stream(now),
            _ => false,
        };
        if renumbered || other_source {
            (current.number.saturating_add(1), true)
        } else {
            (current.number, false)
        }
    }

    /// Enters a file that is kept now. A new generation has no source yet: what was seen of the channel before the
    /// file appeared may be what it read from before.
    pub(super) fn enter(&mut self, kept: Kept) {
        let sequence = kept.name.sequence();
        match self.generations.last_mut() {
            Some(current) if current.number == kept.generation => {
                current.highest = current.highest.max(sequence);
            }
            _ => self.generations.push(Generation {
                number: kept.generation,
                source: None,
                highest: sequence,
            }),
        }
        self.kept.push(kept);
    }

    /// Fills in the source of the current generation, or completes it (an id that was not known yet).
    pub(super) fn learn_source(&mut self, source: &StreamSource) {
        if let Some(current) = self.generations.last_mut() {
            match &current.source {
                None => current.source = Some(source.clone()),
                Some(known) if known.server_id == 0 && known.same_stream(source) => {
                    current.source = Some(source.clone());
                }
                Some(_) => {}
            }
        }
    }

    /// Forgets kept files for which `gone` holds, and generations without any, except the current one.
    pub(super) fn forget(&mut self, gone: impl Fn(&Kept) -> bool) {
        self.kept.retain(|kept| !gone(kept));
        let newest = self.generations.last().map(|g| g.number);
        self.generations.retain(|generation| {
            Some(generation.number) == newest
                || self.kept.iter().any(|k| k.generation == generation.number)
        });
    }

    /// Sets of relay logs that hold one stream each, the current one first: what the server lists now together with what
    /// was kept of the same generation, then older generations of the same source, newest first. A file counts once.
    /// Every listed file must have been entered before. Where there is a link it is named, not the server's own file, which goes as
    /// soon as the applier is through with it, while somebody reads.
    pub(super) fn sets(&self, listed: &[Seen]) -> Vec<Vec<(RelayFileName, PathBuf)>> {
        let mut first: Vec<_> = listed
            .iter()
            .map(|seen| (seen.name.clone(), self.lasting(seen).to_owned()))
            .collect();
        let mut sets = Vec::new();
        if let Some(current) = self.generations.last() {
            let kept_only = |kept: &&Kept| !listed.iter().any(|seen| seen.id == kept.id);
            first.extend(self.of(current.number).filter(kept_only).map(entry));
            let older = self.generations.iter().rev().skip(1).filter(|generation| {
                match (&generation.source, &current.source) {
                    (Some(then), Some(now)) => then.same_stream(now),
                    _ => false,
                }
            });
            for generation in older {
                sets.push(self.of(generation.number).map(entry).collect());
            }
        }
        sets.insert(0, first);
        for set in &mut sets {
            set.sort_by_key(|(name, _)| name.sequence());
        }
        sets.retain(|set| !set.is_empty());
        sets
    }

    /// Where the file of the server can be read for as long as it is kept; a copy may not hold its end yet.
    fn lasting<'a>(&'a self, seen: &'a Seen) -> &'a Path {
        let mut links = self
            .kept
            .iter()
            .filter(|kept| kept.id == seen.id && !kept.copied);
        let link = links.find(|kept| kept.path.exists());
        link.map_or(&seen.path, |kept| &kept.path)
    }

    fn of(&self, generation: u64) -> impl Iterator<Item = &Kept> {
        self.kept
            .iter()
            .filter(move |kept| kept.generation == generation)
    }
}

fn entry(kept: &Kept) -> (RelayFileName, PathBuf) {
    (kept.name.clone(), kept.path.clone())
}

/// Where a kept file goes: beside the original, under a name no server takes for its own.
pub(super) fn kept_path(directory: &Path, generation: u64, name: &RelayFileName) -> PathBuf {
    directory.join(format!("mha-kept-{generation:06}-{name}"))
}
