//! One segment after the other put together, each verified: every checksum, every position, every extent of its manifest.

use std::path::Path;

use super::derive::Derived;
use super::format_description::{FormatDescriptionPatch, patch_format_description};
use super::manifest::{Manifest, ManifestExtent};
use crate::error::LogError;
use crate::event::{EventType, FIRST_EVENT, FormatDescription, rotate};
use crate::map::{FormatRef, Join, MapBuilder, ends_at, start_behind};
use crate::position::{BinlogPosition, StreamRange};
use crate::reader::{EventReader, FileEnd, RawEvent, Step};
use crate::transaction::Tracker;

/// A file and what is known of it.
pub(super) enum Part {
    /// As its manifest says.
    Told(Manifest),
    /// As a walk found.
    Found(Derived),
}

impl Part {
    pub(super) fn manifest(&self) -> &Manifest {
        match self {
            Self::Told(manifest) => manifest,
            Self::Found(derived) => &derived.manifest,
        }
    }

    /// The primary's format description stands at `offset`, outside of every extent.
    fn describes(&self, offset: u64) -> bool {
        match self {
            Self::Told(_) => offset == FIRST_EVENT,
            Self::Found(derived) => derived.formats.contains(&offset),
        }
    }
}

/// Segments put together.
pub(super) struct Joining {
    pub(super) builder: MapBuilder,
    pub(super) range: StreamRange,
    /// Head of each file as the provider held it; empty where the file itself has it.
    pub(super) originals: Vec<Vec<u8>>,
    pub(super) walked: u64,
    /// The last file is one whose server stopped.
    stopped: bool,
    /// The next extent starts the next file behind such a one.
    next_file: bool,
}

impl Joining {
    /// At the start of the first segment.
    pub(super) fn new(first: &Manifest) -> Self {
        let mut builder = MapBuilder::new();
        let from = first.range.from.clone();
        let tracker = Tracker::resume(first.starts, from.offset);
        builder.begin(from, Join::Broken, 0, FIRST_EVENT, tracker);
        Self {
            builder,
            range: first.range.clone(),
            originals: Vec::new(),
            walked: 0,
            stopped: false,
            next_file: false,
        }
    }

    /// The next segment must start where the last one ended.
    pub(super) fn meet(&mut self, path: &Path, manifest: &Manifest) -> Result<(), LogError> {
        let from = &manifest.range.from;
        let meets = self.range.to == *from || self.builder.at() == Some(from);
        self.next_file =
            self.stopped && *from == BinlogPosition::new(self.range.to.file.next(), FIRST_EVENT);
        if !meets && !self.next_file {
            return Err(LogError::Gap {
                path: path.to_owned(),
                expected: self.range.to.clone(),
                found: from.clone(),
            });
        }
        self.range.to = manifest.range.to.clone();
        Ok(())
    }

    /// Takes a segment whole.
    pub(super) fn add(&mut self, path: &Path, part: &Part) -> Result<(), LogError> {
        let manifest = part.manifest();
        self.stopped = matches!(part, Part::Found(derived) if derived.stopped);
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
            if let Some(extent) = extents.peek()
                && extent.segment_offset == reader.offset()
            {
                // It may begin inside a transaction.
                reader.stands_at(extent.from);
            }
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
                        // What the walk left out.
                        FileEnd::Torn { offset, .. } if matches!(part, Part::Found(derived) if derived.end == offset) => {
                            Ok(())
                        }
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
            if event.offset == FIRST_EVENT {
                self.check_head(path, &event, manifest)?;
            }
            if let Some(extent) = extents.next_if(|extent| extent.segment_offset == event.offset) {
                self.begin_extent(path, extent, source, part)?;
                inside = Some(extent);
            }
            match inside {
                Some(extent) => {
                    self.event(path, &event, source, extent)?;
                    if event.end() >= extent.segment_offset + extent.length {
                        inside = None;
                    }
                }
                None => self.framing(path, &event, source, part)?,
            }
        }
    }

    /// The format description that the manifest keeps is sent to servers in place of the one at the head: they may differ
    /// in nothing but what a cut alters.
    fn check_head(
        &self,
        path: &Path,
        event: &RawEvent<'_>,
        manifest: &Manifest,
    ) -> Result<(), LogError> {
        let Some(original) = self.originals.last().filter(|raw| !raw.is_empty()) else {
            return Ok(());
        };
        let patch = FormatDescriptionPatch {
            zero_created: manifest.range.from.offset > FIRST_EVENT,
            zero_log_pos: false,
        };
        if patch_format_description(original, patch) == event.bytes {
            return Ok(());
        }
        Err(LogError::BadManifest {
            path: Manifest::path_for(path),
            reason: "original_format_description is not that of the segment".to_owned(),
        })
    }

    /// A format description at the head, or a made-up Rotate.
    fn framing(
        &mut self,
        path: &Path,
        event: &RawEvent<'_>,
        source: usize,
        part: &Part,
    ) -> Result<(), LogError> {
        match event.type_code() {
            EventType::FORMAT_DESCRIPTION if part.describes(event.offset) => {
                self.set_format(event, source);
                Ok(())
            }
            // A receiver's own events, and what only states a position: the walk followed them.
            _ if matches!(part, Part::Found(_)) => Ok(()),
            EventType::ROTATE if part.manifest().made_up_rotates.contains(&event.offset) => {
                let to = match rotate::parse(event.body()) {
                    // The segment begins behind the Rotate that ends the one before.
                    Some(to) if self.builder.at() == Some(&to) && to.offset == FIRST_EVENT => to,
                    _ => self.leads_on(path, event)?,
                };
                self.builder.go_to(to, Join::NextFile, source, event.end());
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

    /// Where a Rotate leads: to the next file and nowhere else.
    fn leads_on(&self, path: &Path, event: &RawEvent<'_>) -> Result<BinlogPosition, LogError> {
        let next = self
            .builder
            .at()
            .map(|at| BinlogPosition::new(at.file.next(), FIRST_EVENT));
        let to = rotate::parse(event.body());
        match (to, next) {
            (Some(to), Some(next)) if to == next => Ok(to),
            (to, _) => Err(corrupt(
                path,
                event.offset,
                "a ROTATE_EVENT to the next file",
                to.map_or_else(|| "none".to_owned(), |to| to.to_string()),
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
        part: &Part,
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
            Some(_) if std::mem::take(&mut self.next_file) => Join::NextFile,
            Some(_) if matches!(part, Part::Found(found) if found.next_files.contains(&extent.segment_offset)) => {
                Join::NextFile
            }
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
                let to = self.leads_on(path, event)?;
                self.builder.add(event, event.checksum, source, Some(to));
            }
            _ => {
                self.builder.add(event, event.checksum, source, None);
            }
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
