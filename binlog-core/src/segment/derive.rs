//! A manifest for a file that has none: what it holds is found by walking it.
//!
//! The same holds as for a file with one: every checksum is right, every event goes on where the one before it ended. A
//! torn end is left out and counted; a hole, a damaged event, or a position that goes back is refused.

use std::path::Path;

use super::manifest::{Manifest, ManifestExtent};
use crate::error::LogError;
use crate::follow::{Followed, Follower};
use crate::map::{Join, Piece};
use crate::position::{BinlogFileName, BinlogPosition, StreamRange};
use crate::reader::{EventReader, Step};

/// What a walk found.
#[derive(Debug)]
pub(super) struct Derived {
    pub(super) manifest: Manifest,
    /// Offsets of the primary's format descriptions.
    pub(super) formats: Vec<u64>,
    /// Offsets at which the stream goes on in the next file without a Rotate to it.
    pub(super) next_files: Vec<u64>,
    /// The primary stopped here: its stream goes on at the start of the next file.
    pub(super) stopped: bool,
    /// Offset behind the last event that is used.
    pub(super) end: u64,
}

/// Walks a file. `first_file` names the primary's file in which it begins: another one is refused. `before` is the file
/// that the stream reached before: it counts where neither the file nor its own name says another one of that log.
pub(super) fn derive(
    path: &Path,
    first_file: Option<&BinlogFileName>,
    before: Option<&BinlogFileName>,
) -> Result<Derived, LogError> {
    let mut reader = EventReader::open(path)?;
    let mut follower = Follower::new(first_file.cloned(), own_name(path, before), before.cloned());
    let end = loop {
        match reader.step()? {
            Step::Event(event) => {
                if let Some(end) = follower.feed(&event) {
                    break end;
                }
            }
            Step::End(end) => break end,
        }
    };
    let size = reader.size();
    let followed = follower.finish(&reader, end);
    damage(path, &followed)?;
    let path_of = || path.to_owned();
    let pieces = &followed.map.pieces;
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
        return Err(LogError::NoEvents { path: path_of() });
    };
    if !followed.named {
        return Err(LogError::UnknownFile { path: path_of() });
    }
    if let Some(told) = first_file.filter(|told| **told != first.file) {
        return Err(LogError::OtherFile {
            path: path_of(),
            told: told.clone(),
            found: first.file.clone(),
        });
    }
    contiguous(path, &followed)?;
    let (extents, next_files) = extents(pieces);
    let end = followed.map.end.offset();
    let manifest = Manifest {
        format_version: Manifest::VERSION,
        range: StreamRange::new(first.start(), last.end()),
        starts: first
            .marks
            .first()
            .map(|mark| mark.tracker.start_state())
            .unwrap_or_default(),
        extents,
        events: 0,
        transactions: 0,
        whole_end: followed.map.last_transaction().map(|last| last.end),
        size,
        sha256: String::new(),
        provider: path.display().to_string(),
        dropped_bytes: size.saturating_sub(end),
        original_format_description: String::new(),
        made_up_rotates: Vec::new(),
    };
    Ok(Derived {
        manifest,
        formats: followed.formats,
        next_files,
        stopped: followed.stopped,
        end,
    })
}

/// A binary log under its own name.
fn own_name(path: &Path, before: Option<&BinlogFileName>) -> Option<BinlogFileName> {
    let name: BinlogFileName = path.file_name()?.to_str()?.parse().ok()?;
    before
        .is_none_or(|before| before.base() == name.base())
        .then_some(name)
}

/// Anything but a torn end is damage.
fn damage(path: &Path, followed: &Followed) -> Result<(), LogError> {
    match &followed.map.end {
        crate::LogEnd::Corrupt { offset, detail, .. } => Err(LogError::Corrupt {
            path: path.to_owned(),
            offset: *offset,
            expected: "a whole event".to_owned(),
            found: detail.clone(),
        }),
        _ => Ok(()),
    }
}

/// No hole, and nothing that goes back.
fn contiguous(path: &Path, followed: &Followed) -> Result<(), LogError> {
    let gap = |expected: BinlogPosition, found: BinlogPosition| LogError::Gap {
        path: path.to_owned(),
        expected,
        found,
    };
    for pair in followed.map.pieces.windows(2) {
        let [before, after] = pair else { continue };
        if after.join != Join::Broken {
            continue;
        }
        let (end, start) = (before.end(), after.start());
        if start > end {
            return Err(LogError::Hole {
                missing: StreamRange::new(end, start),
                path: path.to_owned(),
                offset: after.at,
            });
        }
        return Err(gap(end, start));
    }
    match (followed.lost, followed.map.pieces.last()) {
        (Some((_, start)), Some(last)) => {
            let found = BinlogPosition::new(last.file.clone(), u64::from(start));
            Err(gap(last.end(), found))
        }
        _ => Ok(()),
    }
}

/// Extents of the pieces that hold events, and where a file begins without a Rotate to it.
fn extents(pieces: &[Piece]) -> (Vec<ManifestExtent>, Vec<u64>) {
    let mut extents: Vec<ManifestExtent> = Vec::new();
    let mut next_files = Vec::new();
    let mut next_file = false;
    for piece in pieces {
        next_file |= piece.join == Join::NextFile;
        if piece.to == piece.from {
            continue;
        }
        if std::mem::take(&mut next_file) {
            next_files.push(piece.at);
        }
        extents.push(ManifestExtent {
            file: piece.file.clone(),
            from: piece.from,
            to: piece.to,
            segment_offset: piece.at,
            length: piece.end_at - piece.at,
        });
    }
    (extents, next_files)
}
