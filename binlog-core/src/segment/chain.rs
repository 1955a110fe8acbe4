//! Segments of one stream, joined: verified whole, then read from any event boundary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest as _;

use super::manifest::{Manifest, ManifestExtent};
use super::stream::ChainEvents;
use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::{EventType, FIRST_EVENT, FormatDescription, rotate};
use crate::gtid::{MariaDbGtid, MariaDbGtidPos};
use crate::map::{FormatRef, Join, Map, MapBuilder, ends_at, start_behind};
use crate::mariadb_position;
use crate::position::{BinlogPosition, StreamRange};
use crate::reader::{EventReader, FileEnd, RawEvent, Step};
use crate::transaction::Tracker;

/// Segments of one stream, contiguous, in order.
#[derive(Debug, Clone)]
pub struct SegmentChain {
    range: StreamRange,
    map: Arc<Map>,
    /// Head of each segment as the provider held it, by index of the file.
    originals: Arc<Vec<Vec<u8>>>,
}

impl SegmentChain {
    /// Opens segments in stream order. Each needs its manifest and is verified: size and digest, every checksum, every
    /// position. Neighbours must meet exactly; they may do so inside a transaction.
    ///
    /// # Errors
    /// [`LogError::Gap`], [`LogError::DigestMismatch`], [`LogError::BadManifest`], [`LogError::Corrupt`], I/O; an empty
    /// list is [`LogError::NoFiles`].
    pub fn open(files: &[PathBuf]) -> Result<Self, LogError> {
        let mut joined: Option<Joining> = None;
        for path in files {
            let manifest = Manifest::load(path)?;
            verify_digest(path, &manifest)?;
            match &mut joined {
                None => joined = Some(Joining::new(&manifest)),
                Some(joining) => joining.meet(path, &manifest)?,
            }
            if let Some(joining) = &mut joined {
                joining.add(path, &manifest)?;
            }
        }
        let joining = joined.ok_or_else(|| LogError::NoFiles {
            basename: PathBuf::new(),
        })?;
        let file = files
            .last()
            .and_then(|path| path.file_name())
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let end = LogEnd::Clean {
            file,
            offset: joining.walked,
            detail: "end of the segments".to_owned(),
        };
        let map = joining.builder.finish(files.to_vec(), end, joining.walked);
        Ok(Self {
            range: joining.range,
            map: Arc::new(map),
            originals: Arc::new(joining.originals),
        })
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
    /// first transaction follows them directly; `None` if the chain cannot tell.
    ///
    /// # Errors
    /// I/O.
    pub fn position_of_gtid_pos(
        &self,
        executed: &MariaDbGtidPos,
    ) -> Result<Option<BinlogPosition>, LogError> {
        mariadb_position::of_position(&self.map, executed)
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

fn verify_digest(path: &Path, manifest: &Manifest) -> Result<(), LogError> {
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

struct Joining {
    builder: MapBuilder,
    range: StreamRange,
    originals: Vec<Vec<u8>>,
    walked: u64,
}

impl Joining {
    fn new(first: &Manifest) -> Self {
        let mut builder = MapBuilder::new();
        let from = first.range.from.clone();
        let tracker = Tracker::resume(first.starts, from.offset);
        builder.begin(from, Join::Broken, 0, FIRST_EVENT, tracker);
        Self {
            builder,
            range: first.range.clone(),
            originals: Vec::new(),
            walked: 0,
        }
    }

    /// The next segment must start where the last one ended.
    fn meet(&mut self, path: &Path, manifest: &Manifest) -> Result<(), LogError> {
        let from = &manifest.range.from;
        let meets = self.range.to == *from || self.builder.at() == Some(from);
        if !meets {
            return Err(LogError::Gap {
                path: path.to_owned(),
                expected: self.range.to.clone(),
                found: from.clone(),
            });
        }
        self.range.to = manifest.range.to.clone();
        Ok(())
    }

    fn add(&mut self, path: &Path, manifest: &Manifest) -> Result<(), LogError> {
        let source = self.originals.len();
        let original = hex::decode(&manifest.original_format_description).map_err(|e| {
            LogError::BadManifest {
                path: Manifest::path_for(path),
                reason: format!("original_format_description: {e}"),
            }
        })?;
        self.originals.push(original);
        let mut reader = EventReader::open(path)?;
        let mut extents = manifest.extents.iter().peekable();
        let mut inside: Option<&ManifestExtent> = None;
        loop {
            let event = match reader.step()? {
                Step::Event(event) => event,
                Step::End(end) => {
                    self.walked += reader.offset();
                    return match end {
                        FileEnd::Boundary => self.check_complete(
                            path,
                            manifest,
                            extents.next().is_none() && inside.is_none(),
                        ),
                        FileEnd::Torn { offset, detail } => {
                            Err(corrupt(path, offset, "a whole event", detail))
                        }
                        FileEnd::Corrupt {
                            offset,
                            expected,
                            found,
                        } => Err(corrupt(path, offset, &expected, found)),
                    };
                }
            };
            if let Some(extent) = extents.next_if(|extent| extent.segment_offset == event.offset) {
                self.begin_extent(path, extent, source)?;
                inside = Some(extent);
            }
            match inside {
                Some(extent) => {
                    self.event(path, &event, source, extent)?;
                    if event.end() >= extent.segment_offset + extent.length {
                        inside = None;
                    }
                }
                None => self.framing(path, &event, source, manifest)?,
            }
        }
    }

    /// A format description at the head, or a made-up Rotate.
    fn framing(
        &mut self,
        path: &Path,
        event: &RawEvent<'_>,
        source: usize,
        manifest: &Manifest,
    ) -> Result<(), LogError> {
        match event.type_code() {
            EventType::FORMAT_DESCRIPTION if event.offset == FIRST_EVENT => {
                self.set_format(event, source);
                Ok(())
            }
            EventType::ROTATE if manifest.made_up_rotates.contains(&event.offset) => {
                if let Some(to) = rotate::parse(event.body()) {
                    self.builder.go_to(to, Join::NextFile, source, event.end());
                }
                Ok(())
            }
            other => Err(corrupt(
                path,
                event.offset,
                "an event of one of the manifest's extents",
                other.to_string(),
            )),
        }
    }

    fn set_format(&mut self, event: &RawEvent<'_>, source: usize) {
        if let Some(description) = FormatDescription::parse(event.bytes) {
            self.builder.set_format(FormatRef {
                source,
                offset: event.offset,
                header: event.header,
                checksum: description.checksum,
            });
        }
    }

    fn begin_extent(
        &mut self,
        path: &Path,
        extent: &ManifestExtent,
        source: usize,
    ) -> Result<(), LogError> {
        let start = BinlogPosition::new(extent.file.clone(), extent.from);
        let unexpected = |found: &Option<BinlogPosition>| {
            let found = found
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), ToString::to_string);
            LogError::BadManifest {
                path: Manifest::path_for(path),
                reason: format!("an extent starts at {start}, the stream is at {found}"),
            }
        };
        let at = self.builder.at().cloned();
        let join = match &at {
            Some(at) if *at == start => {
                let rotated = self
                    .builder
                    .last()
                    .is_some_and(|last| last.rotate_to.as_ref() == Some(&start));
                if rotated {
                    Join::NextFile
                } else {
                    Join::Contiguous
                }
            }
            Some(at) if at.file == start.file && at.offset < start.offset => Join::Unstored,
            _ => return Err(unexpected(&at)),
        };
        self.builder
            .go_to(start, join, source, extent.segment_offset);
        Ok(())
    }

    fn event(
        &mut self,
        path: &Path,
        event: &RawEvent<'_>,
        source: usize,
        extent: &ManifestExtent,
    ) -> Result<(), LogError> {
        let expected = self.builder.at().map_or(0, |at| at.offset);
        let sparse = extent.length < extent.to - extent.from;
        let start = if sparse && event.type_code() != EventType::FORMAT_DESCRIPTION {
            start_behind(&event.header, expected)
        } else {
            expected
        };
        let end = start + u64::from(event.header.event_size);
        if !ends_at(&event.header, end) || end > extent.to {
            return Err(corrupt(
                path,
                event.offset,
                &format!("log_pos {end} modulo 2^32"),
                event.header.log_pos.to_string(),
            ));
        }
        if start > expected {
            self.builder.skip_to(start);
        }
        match event.type_code() {
            EventType::FORMAT_DESCRIPTION => {
                self.set_format(event, source);
                let checksum =
                    FormatDescription::parse(event.bytes).map_or(event.checksum, |d| d.checksum);
                self.builder.add(event, checksum, source, None);
            }
            EventType::ROTATE => {
                let to = rotate::parse(event.body()).ok_or_else(|| {
                    corrupt(
                        path,
                        event.offset,
                        "a ROTATE_EVENT that names a file",
                        "none".to_owned(),
                    )
                })?;
                self.builder.add(event, event.checksum, source, Some(to));
            }
            _ => self.builder.add(event, event.checksum, source, None),
        }
        Ok(())
    }

    fn check_complete(&self, path: &Path, manifest: &Manifest, used: bool) -> Result<(), LogError> {
        let reached = self
            .builder
            .last()
            .map(|last| BinlogPosition::new(last.file.clone(), last.to));
        let to = &manifest.range.to;
        let complete = used
            && (self.builder.at() == Some(to)
                || reached.as_ref() == Some(to)
                // The range may end inside what the provider does not store.
                || self.builder.at().is_some_and(|at| at.file == to.file && at < to));
        if complete {
            return Ok(());
        }
        let found = self
            .builder
            .at()
            .map_or_else(|| "nothing".to_owned(), ToString::to_string);
        Err(LogError::DigestMismatch {
            path: path.to_owned(),
            what: "end",
            expected: to.to_string(),
            found,
        })
    }
}

fn corrupt(path: &Path, offset: u64, expected: &str, found: String) -> LogError {
    LogError::Corrupt {
        path: path.to_owned(),
        offset,
        expected: expected.to_owned(),
        found,
    }
}
