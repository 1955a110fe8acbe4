//! Segments: parts of the primary's stream as files of their own.
//!
//! Layout: the magic number; the primary's format description of the first file (in-use flag cleared and, where the range
//! starts beyond 4, `created` zeroed, checksum recomputed: the only bytes ever altered, the original kept in the
//! manifest); the primary's events of the range, byte for byte; at each change of file the primary's Rotate (made up, and
//! marked so in the manifest, if the provider lacks it), then the next file's format description. Beside it
//! `FILE.manifest.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::EventHeader;
use crate::gtid::{MariaDbGtid, MariaDbGtidPos};
use crate::position::{BinlogPosition, StreamRange};

/// What a cut would do.
#[derive(Debug)]
pub enum CutPlan {
    /// There is something.
    Cut(Cut),
    /// There is nothing.
    Nothing(NothingToCut),
}

/// Nothing to cut, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NothingToCut {
    /// The position asked for.
    pub at: BinlogPosition,
    /// How the log ends.
    pub end: LogEnd,
    /// Why.
    pub reason: NothingReason,
}

/// Why there is nothing to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NothingReason {
    /// The log ends at the position, or the range is empty.
    AtEnd,
    /// Only a Stop, Rotate or other event without data follows.
    OnlyClosing,
    /// The log ends before the position: the reader of this log holds more.
    BeyondEnd,
    /// Only a part of a transaction follows.
    OnlyUnfinished,
}

impl std::fmt::Display for NothingReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AtEnd => "at end",
            Self::OnlyClosing => "only a Stop or Rotate event follows",
            Self::BeyondEnd => "position beyond the end",
            Self::OnlyUnfinished => "unfinished transaction dropped",
        })
    }
}

/// A verified plan: what to copy from where.
#[derive(Debug)]
pub struct Cut {
    range: StreamRange,
}

impl Cut {
    /// What the segment will hold.
    #[must_use]
    pub fn range(&self) -> &StreamRange {
        &self.range
    }

    /// Size of the segment in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// Writes the segment and its manifest: temporary files, fsync, rename, fsync of the directory. `progress` is called
    /// with the bytes written so far. After an error neither file exists.
    ///
    /// # Errors
    /// I/O; a source file that changed since the plan was made.
    pub fn write(
        &self,
        _output: &Path,
        _provider: &str,
        _progress: &mut dyn FnMut(u64),
    ) -> Result<Manifest, LogError> {
        todo!()
    }
}

/// Sidecar of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format: 1.
    pub format_version: u32,
    /// What the segment holds.
    pub range: StreamRange,
    /// Where each part of the range is in the file.
    pub extents: Vec<ManifestExtent>,
    /// Number of events copied (format descriptions and Rotates of the range included).
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
    /// The format description at the head as the provider held it, hex.
    pub original_format_description: String,
    /// Offsets in the file of Rotate events that the provider lacked and that were made up.
    pub made_up_rotates: Vec<u64>,
}

/// A part of the range that is contiguous in one primary file and in the segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestExtent {
    /// Primary's file.
    pub file: crate::position::BinlogFileName,
    /// Offset there.
    pub from: u64,
    /// End there.
    pub to: u64,
    /// Offset in the segment.
    pub segment_offset: u64,
}

impl Manifest {
    /// Where the manifest of a segment is: `FILE.manifest.json`.
    #[must_use]
    pub fn path_for(segment: &Path) -> PathBuf {
        let mut name = segment.as_os_str().to_owned();
        name.push(".manifest.json");
        PathBuf::from(name)
    }

    /// As stored.
    ///
    /// # Errors
    /// Never in practice; the serialiser's error.
    pub fn to_json(&self) -> Result<Vec<u8>, LogError> {
        todo!()
    }

    /// Reads and checks a manifest; `path` is for errors only.
    ///
    /// # Errors
    /// [`LogError::BadManifest`].
    pub fn from_json(_json: &[u8], _path: &Path) -> Result<Self, LogError> {
        todo!()
    }
}

/// Segments of one stream, contiguous, in order.
#[derive(Debug)]
pub struct SegmentChain {
    range: StreamRange,
}

impl SegmentChain {
    /// Opens segments in stream order. Each is verified: digest against its manifest, continuity, checksums; neighbours
    /// must meet exactly. Segments that do not end between transactions are fine, except that transactions cut by the
    /// end of the last one are not counted by [`Self::whole_end`].
    ///
    /// # Errors
    /// [`LogError::Gap`], [`LogError::DigestMismatch`], [`LogError::BadManifest`], [`LogError::Corrupt`], I/O.
    pub fn open(_files: &[PathBuf]) -> Result<Self, LogError> {
        todo!()
    }

    /// What the chain holds.
    #[must_use]
    pub fn range(&self) -> StreamRange {
        self.range.clone()
    }

    /// End of the last whole transaction; the start of the range if there is none.
    #[must_use]
    pub fn whole_end(&self) -> BinlogPosition {
        todo!()
    }

    /// Events from `from` on, which must be an event boundary inside the range or its end, and may lie inside a
    /// transaction. The first item, and the first of each further primary file, is that file's format description;
    /// Rotates are items too.
    ///
    /// # Errors
    /// [`LogError::NotABoundary`], [`LogError::NotHeld`], I/O.
    pub fn events_from(&self, _from: &BinlogPosition) -> Result<ChainEvents, LogError> {
        todo!()
    }

    /// MariaDB: where the transaction with this GTID ends, if the chain holds its end.
    ///
    /// # Errors
    /// I/O.
    pub fn position_after_gtid(
        &self,
        _gtid: &MariaDbGtid,
    ) -> Result<Option<BinlogPosition>, LogError> {
        todo!()
    }

    /// MariaDB: the coordinates from which a replica that executed `executed` must be served: the end of the last of
    /// its transactions that the chain holds; the start of the chain's range if the chain holds none of them but its
    /// first transactions follow them directly; `None` if the chain cannot tell.
    ///
    /// # Errors
    /// I/O.
    pub fn position_of_gtid_pos(
        &self,
        _executed: &MariaDbGtidPos,
    ) -> Result<Option<BinlogPosition>, LogError> {
        todo!()
    }

    /// MariaDB: the GTID position of the primary at `at`, exactly, or `None` if the chain cannot tell.
    ///
    /// # Errors
    /// I/O.
    pub fn mariadb_gtid_pos_at(
        &self,
        _at: &BinlogPosition,
    ) -> Result<Option<MariaDbGtidPos>, LogError> {
        todo!()
    }
}

/// Iterator over the events of a chain. Memory is constant.
#[derive(Debug)]
pub struct ChainEvents {}

impl Iterator for ChainEvents {
    type Item = Result<StreamedEvent, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// One event of a chain.
#[derive(Debug)]
pub struct StreamedEvent {
    /// Where it starts in the primary's stream. For a format description that is not part of the range (the one before
    /// a start beyond 4) and for a made-up Rotate: where the stream is, before and after alike or the next file's start.
    pub position_before: BinlogPosition,
    /// Where the stream is after it; after a Rotate that is the next file at 4.
    pub position_after: BinlogPosition,
    /// Its header.
    pub header: EventHeader,
    /// The file it belongs to carries a CRC-32 at the end of each event.
    pub checksum: bool,
    /// All its bytes, header and checksum included, as stored in the primary (format descriptions: the original, in-use
    /// flag cleared).
    pub bytes: EventBytes,
}

/// Bytes of an event.
#[derive(Debug)]
pub enum EventBytes {
    /// Up to 1 MiB: all of it.
    Inline(Vec<u8>),
    /// More: read in pieces.
    Blocks(EventBlocks),
}

/// Bytes of a large event, read in pieces.
#[derive(Debug)]
pub struct EventBlocks {
    remaining: u64,
}

impl EventBlocks {
    /// Size of the whole event in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// True if everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// Fills `buf` with the next bytes; 0 at the end.
    ///
    /// # Errors
    /// I/O.
    pub fn read_block(&mut self, _buf: &mut [u8]) -> Result<usize, LogError> {
        todo!()
    }
}

/// How [`patch_format_description`] alters an event. The in-use flag is always cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FormatDescriptionPatch {
    /// `created` := 0 (the source did not restart: an open transaction and temporary tables stay).
    pub zero_created: bool,
    /// `log_pos` := 0 (the event takes no place in the stream).
    pub zero_log_pos: bool,
}

/// A format description event with its in-use and artificial flags cleared, further changed as `patch` says, checksum
/// recomputed. `raw` is the whole event; anything that is no whole format description comes back unchanged.
#[must_use]
pub fn patch_format_description(_raw: &[u8], _patch: FormatDescriptionPatch) -> Vec<u8> {
    todo!()
}
