//! The sidecar of a segment: what it holds, where it came from, and how to tell that it is whole.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::LogError;
use crate::event::FIRST_EVENT;
use crate::position::{BinlogFileName, BinlogPosition, StreamRange};
use crate::transaction::StartState;

/// Version written and read.
const FORMAT_VERSION: u32 = 1;
/// Largest manifest read, in bytes.
pub(crate) const SIZE_MAX: u64 = 64 << 20;

/// Sidecar of a segment, stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format: 1.
    pub format_version: u32,
    /// What the segment holds.
    pub range: StreamRange,
    /// What is known of transactions at its start.
    #[serde(default)]
    pub starts: StartState,
    /// Where each part of the range is in the file, ascending, one for each primary file.
    pub extents: Vec<ManifestExtent>,
    /// Number of events copied, format descriptions and Rotates inside the range included.
    pub events: u64,
    /// Number of transactions that end in the segment.
    pub transactions: u64,
    /// End of the last transaction that ends in the segment.
    pub whole_end: Option<BinlogPosition>,
    /// Size of the file in bytes.
    pub size: u64,
    /// sha256 of the file, hex.
    pub sha256: String,
    /// Who cut it.
    pub provider: String,
    /// Bytes of the provider's log behind the range that belong to an unfinished transaction or a torn event.
    pub dropped_bytes: u64,
    /// The format description at the head of the file as the provider holds it, hex.
    pub original_format_description: String,
    /// Offsets in the file of Rotate events that the provider lacked and that were made up.
    pub made_up_rotates: Vec<u64>,
}

/// A part of the range in one primary file, contiguous in the segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestExtent {
    /// Primary's file.
    pub file: BinlogFileName,
    /// Offset there.
    pub from: u64,
    /// End there.
    pub to: u64,
    /// Offset in the segment.
    pub segment_offset: u64,
    /// Bytes in the segment. Fewer than `to - from` if events are missing that the provider does not store
    /// (Previous_gtids, MariaDB's Annotate_rows and the like); each event's log_pos then tells where it stands.
    pub length: u64,
}

impl Manifest {
    /// The version that this build writes.
    pub const VERSION: u32 = FORMAT_VERSION;

    /// Where the manifest of a segment is: `FILE.manifest.json`.
    #[must_use]
    pub fn path_for(segment: &Path) -> PathBuf {
        let mut name = segment.as_os_str().to_owned();
        name.push(".manifest.json");
        PathBuf::from(name)
    }

    /// As stored.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Reads and checks a manifest; `path` is for errors only.
    ///
    /// # Errors
    /// [`LogError::BadManifest`].
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self, LogError> {
        let bad = |reason: String| LogError::BadManifest {
            path: path.to_owned(),
            reason,
        };
        let manifest: Self = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        if manifest.format_version != FORMAT_VERSION {
            return Err(bad(format!(
                "format version {}, this build reads {FORMAT_VERSION}",
                manifest.format_version
            )));
        }
        manifest.check().map_err(bad)?;
        Ok(manifest)
    }

    /// The manifest beside a segment.
    ///
    /// # Errors
    /// I/O, [`LogError::BadManifest`].
    pub fn load(segment: &Path) -> Result<Self, LogError> {
        let path = Self::path_for(segment);
        let size = std::fs::metadata(&path)
            .map_err(LogError::io("read", &path))?
            .len();
        if size > SIZE_MAX {
            return Err(LogError::BadManifest {
                path,
                reason: format!("{size} bytes long"),
            });
        }
        let json = std::fs::read(&path).map_err(LogError::io("read", &path))?;
        Self::from_json(&json, &path)
    }

    fn check(&self) -> Result<(), String> {
        if self.range.from > self.range.to {
            return Err(format!("range {} is the wrong way round", self.range));
        }
        if hex::decode(&self.sha256).is_ok_and(|digest| digest.len() != 32)
            || hex::decode(&self.sha256).is_err()
        {
            return Err("sha256 is no digest".to_owned());
        }
        let mut stream = self.range.from.clone();
        let mut place = FIRST_EVENT;
        for extent in &self.extents {
            let from = BinlogPosition::new(extent.file.clone(), extent.from);
            let to = BinlogPosition::new(extent.file.clone(), extent.to);
            let fits = extent.length > 0
                && extent
                    .to
                    .checked_sub(extent.from)
                    .is_some_and(|len| len >= extent.length);
            let end = extent
                .segment_offset
                .checked_add(extent.length)
                .filter(|_| fits);
            let Some(end) = end.filter(|&end| end <= self.size) else {
                return Err(format!(
                    "extent {from}..{} does not fit into {} bytes",
                    extent.to, self.size
                ));
            };
            if from < stream || extent.segment_offset < place {
                return Err(format!(
                    "extent {from} overlaps the one before it or the start of the range"
                ));
            }
            stream = to;
            place = end;
        }
        if stream > self.range.to {
            return Err(format!(
                "extents reach to {stream}, the range only to {}",
                self.range.to
            ));
        }
        Ok(())
    }
}
