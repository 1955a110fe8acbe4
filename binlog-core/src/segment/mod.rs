//! Segments: parts of the primary's stream as files of their own.
//!
//! Layout: the magic number; the primary's format description of the first file (in-use flag cleared and, where the range
//! starts beyond 4, `created` zeroed, checksum recomputed: the only bytes ever altered, the original kept in the
//! manifest); the primary's events of the range, byte for byte; at each change of file the primary's Rotate (made up, and
//! marked so in the manifest, if the provider lacks it), then the next file's format description. Beside it
//! `FILE.manifest.json`. Format descriptions that a receiver wrote down again carry an artificial flag, which is cleared
//! too; in those of later files the in-use flag is cleared.

mod chain;
mod copying;
mod data;
mod derive;
pub(crate) mod draft;
mod format_description;
mod joining;
mod manifest;
mod output;
pub(crate) mod plan;
mod stream;
mod writer;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::LogError;

pub use chain::SegmentChain;
pub(crate) use chain::verify_digest;
pub use format_description::{FormatDescriptionPatch, patch_format_description};
pub use manifest::{Manifest, ManifestExtent};
pub use plan::{Cut, CutPlan, NothingReason, NothingToCut};
pub use stream::{ChainEvents, EventBlocks, EventBytes, StreamedEvent};

/// Bytes read at a time.
const BLOCK: usize = 256 << 10;

/// Hands `len` bytes from `offset` of a file to `take`, in blocks.
pub(crate) fn read_range(
    path: &Path,
    offset: u64,
    len: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let file = File::open(path).map_err(LogError::io("open", path))?;
    read_open_range(&file, path, offset, len, take)
}

/// [`read_range`] of a file that is open already; `path` is for errors.
pub(crate) fn read_open_range(
    file: &File,
    path: &Path,
    offset: u64,
    len: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let mut block = vec![0; usize::try_from(len).unwrap_or(BLOCK).min(BLOCK)];
    let mut done = 0;
    while done < len {
        let want = usize::try_from(len - done).unwrap_or(BLOCK).min(BLOCK);
        let Some(target) = block.get_mut(..want) else {
            break;
        };
        file.read_exact_at(target, offset + done)
            .map_err(LogError::io("read", path))?;
        take(target)?;
        done += want as u64;
    }
    Ok(())
}
