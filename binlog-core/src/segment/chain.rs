//! Segments of one stream, joined: verified whole, then read from any event boundary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest as _;

use super::derive::derive;
use super::joining::{Joining, Part};
use super::manifest::Manifest;
use super::plan::{self, CutPlan};
use super::stream::ChainEvents;
use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::FIRST_EVENT;
use crate::gtid::{GtidSet, MariaDbGtid, MariaDbGtidPos};
use crate::gtid_place;
use crate::map::{Map, Next, Place};
use crate::mariadb_position;
use crate::position::{BinlogFileName, BinlogPosition, StreamRange};

/// What is known of a file, given where the one before it ended; `None` if it holds nothing.
type ReadPart<'a> =
    dyn FnMut(&Path, Option<&BinlogPosition>) -> Result<Option<Part>, LogError> + 'a;

/// Segments of one stream, contiguous, in order.
#[derive(Debug, Clone)]
pub struct SegmentChain {
    range: StreamRange,
    map: Arc<Map>,
    /// Head of each segment as the provider held it, by index of the file.
    originals: Arc<Vec<Vec<u8>>>,
    /// Bytes that the last segment leaves out.
    dropped: u64,
}

impl SegmentChain {
    /// Opens segments in stream order. Each needs its manifest and is verified: size and digest, every checksum, every
    /// position. Neighbours must meet exactly; they may do so inside a transaction.
    ///
    /// # Errors
    /// [`LogError::Gap`], [`LogError::DigestMismatch`], [`LogError::BadManifest`], [`LogError::Corrupt`], I/O; an empty
    /// list is [`LogError::NoFiles`].
    pub fn open(files: &[PathBuf]) -> Result<Self, LogError> {
        Self::open_each(files, &mut |path, _| {
            let manifest = Manifest::load(path)?;
            verify_digest(path, &manifest)?;
            Ok(Some(Part::Told(manifest)))
        })
    }

    /// As [`Self::open`], also for files without a manifest: binary logs, relay logs, what other tools saved. What such a
    /// file holds is found by walking it. `first_file` names the primary's file in which the first file begins, where it
    /// does not say so itself; later ones begin where the one before ended.
    ///
    /// # Errors
    /// As [`Self::open`]; [`LogError::UnknownFile`], [`LogError::OtherFile`], [`LogError::NoEvents`], and
    /// [`LogError::Hole`] inside a file.
    pub fn open_any(
        files: &[PathBuf],
        first_file: Option<&BinlogFileName>,
    ) -> Result<Self, LogError> {
        Self::open_each(files, &mut |path, reached| {
            let sidecar = Manifest::path_for(path);
            let told = sidecar
                .try_exists()
                .map_err(LogError::io("look for", &sidecar))?;
            if told {
                let manifest = Manifest::load(path)?;
                verify_digest(path, &manifest)?;
                return Ok(Some(Part::Told(manifest)));
            }
            let derived = match reached {
                None => derive(path, first_file, None),
                Some(reached) => derive(path, None, Some(&reached.file)),
            };
            match derived {
                // The head of a relay log, say: it neither adds anything nor stands in the way.
                Err(LogError::NoEvents { .. }) if files.len() > 1 => Ok(None),
                derived => Ok(Some(Part::Found(derived?))),
            }
        })
    }

    fn open_each(files: &[PathBuf], read: &mut ReadPart<'_>) -> Result<Self, LogError> {
        let mut joined: Option<Joining> = None;
        let mut dropped = 0;
        let mut used = Vec::with_capacity(files.len());
        for path in files {
            let reached = joined.as_ref().map(|joining| joining.range.to.clone());
            let Some(part) = read(path, reached.as_ref())? else {
                continue;
            };
            used.push(path.clone());
            match &mut joined {
                None => joined = Some(Joining::new(part.manifest())),
                Some(joining) => joining.meet(path, part.manifest())?,
            }
            if let Some(joining) = &mut joined {
                joining.add(path, &part)?;
            }
            dropped = part.manifest().dropped_bytes;
        }
        let joining = joined.ok_or_else(|| match files.last() {
            Some(path) => LogError::NoEvents { path: path.clone() },
            None => LogError::NoFiles {
                basename: PathBuf::new(),
            },
        })?;
        let file = used
            .last()
            .and_then(|path: &PathBuf| path.file_name())
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let end = LogEnd::Clean {
            file,
            offset: joining.walked,
            detail: "end of the segments".to_owned(),
        };
        let map = joining.builder.finish(used, end, joining.walked);
        Ok(Self {
            range: joining.range,
            map: Arc::new(map),
            originals: Arc::new(joining.originals),
            dropped,
        })
    }

    /// A plan to write the whole chain as one segment.
    ///
    /// # Errors
    /// [`LogError::NoFormatDescription`], I/O.
    pub fn plan_join(&self) -> Result<CutPlan, LogError> {
        // The range may end inside what the last provider does not store: nothing of that can be written.
        let end = self.map.data_end().unwrap_or_else(|| self.range.to.clone());
        let range = StreamRange::new(self.range.from.clone(), end);
        let mut plan = plan::exact(&self.map, &range)?;
        if let CutPlan::Cut(cut) = &mut plan {
            cut.original = self
                .originals
                .first()
                .filter(|raw| !raw.is_empty())
                .cloned();
            cut.dropped_bytes = self.dropped;
        }
        Ok(plan)
    }

    /// Number of transactions that end in the chain behind `from`, which must be an event boundary of it.
    ///
    /// # Errors
    /// As [`Self::events_from`].
    pub fn transactions_from(&self, from: &BinlogPosition) -> Result<u64, LogError> {
        let place = self.map.find(from)?;
        let mut tracker = self.map.tracker_at(place)?;
        let mut transactions = 0;
        self.map.walk(place, &mut |_, event, start| {
            transactions += u64::from(tracker.feed(event, start).is_some());
            Ok(Next::Go)
        })?;
        Ok(transactions)
    }

    /// What the chain holds.
    #[must_use]
    pub fn range(&self) -> StreamRange {
        self.range.clone()
    }

    /// End of the last whole transaction; the start of the range if there is none.
    #[must_use]
    pub fn whole_end(&self) -> BinlogPosition {
        self.map
            .last_transaction()
            .map_or_else(|| self.range.from.clone(), |t| t.end)
    }

    /// Events from `from` on, which must be an event boundary inside the range or its end, and may lie inside a
    /// transaction. The first item, and the first of each further primary file, is that file's format description;
    /// Rotates are items too.
    ///
    /// # Errors
    /// [`LogError::NotABoundary`], [`LogError::NotHeld`], I/O.
    pub fn events_from(&self, from: &BinlogPosition) -> Result<ChainEvents, LogError> {
        ChainEvents::new(Arc::clone(&self.map), Arc::clone(&self.originals), from)
    }

    /// MySQL: the GTIDs of all whole transactions of the chain whose head it holds.
    ///
    /// # Errors
    /// I/O.
    pub fn mysql_gtids(&self) -> Result<GtidSet, LogError> {
        let offset = self.map.pieces.first().map_or(FIRST_EVENT, |p| p.from);
        gtid_place::gtids(&self.map, Place { piece: 0, offset })
    }

    /// MariaDB: where the transaction with this GTID ends, if the chain holds its end and its head.
    ///
    /// # Errors
    /// I/O.
    pub fn position_after_gtid(
        &self,
        gtid: &MariaDbGtid,
    ) -> Result<Option<BinlogPosition>, LogError> {
        mariadb_position::after_gtid(&self.map, gtid)
    }

    /// MariaDB: the coordinates from which a replica that executed `executed` must be served: the end of the last of
    /// its transactions that the chain holds; the start of the chain's range if the chain holds none of them but its
    /// first transaction follows them directly; `None` if the chain cannot tell. Where its domains stand at different
    /// places, as those of a parallel applier may that was killed, it is where the first transaction begins that the
    /// replica lacks: it must skip by its GTIDs what it has of the rest (`gtid_ignore_duplicates`).
    ///
    /// # Errors
    /// I/O.
    pub fn position_of_gtid_pos(
        &self,
        executed: &MariaDbGtidPos,
    ) -> Result<Option<BinlogPosition>, LogError> {
        match mariadb_position::of_position(&self.map, executed)? {
            Some(place) => Ok(Some(place)),
            None => mariadb_position::low_water_of_position(&self.map, executed),
        }
    }

    /// MariaDB: the GTID position of the primary at `at`, exactly, or `None` if the chain cannot tell: the Gtid_list at
    /// the head of that file must be in the chain, and `at` must not be inside a transaction.
    ///
    /// # Errors
    /// [`LogError::NotABoundary`], [`LogError::NotHeld`], I/O.
    pub fn mariadb_gtid_pos_at(
        &self,
        at: &BinlogPosition,
    ) -> Result<Option<MariaDbGtidPos>, LogError> {
        mariadb_position::position_at(&self.map, at)
    }
}

/// Size and digest of a segment against its manifest.
pub(crate) fn verify_digest(path: &Path, manifest: &Manifest) -> Result<(), LogError> {
    let mismatch = |what, expected: String, found: String| LogError::DigestMismatch {
        path: path.to_owned(),
        what,
        expected,
        found,
    };
    let size = std::fs::metadata(path)
        .map_err(LogError::io("read the size of", path))?
        .len();
    if size != manifest.size {
        return Err(mismatch(
            "size",
            manifest.size.to_string(),
            size.to_string(),
        ));
    }
    let mut hasher = sha2::Sha256::new();
    super::read_range(path, 0, size, &mut |block| {
        hasher.update(block);
        Ok(())
    })?;
    let found = hex::encode(hasher.finalize());
    if found != manifest.sha256.to_ascii_lowercase() {
        return Err(mismatch("sha256", manifest.sha256.clone(), found));
    }
    Ok(())
}
