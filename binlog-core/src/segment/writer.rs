//! Writes a segment: temporary files, fsync, rename, fsync of the directory. Memory is constant; every event is verified
//! again while it is copied. Three things happen at the same time: the source is read and its checksums verified (see
//! `reader`), positions are followed and bytes copied, and what was copied is digested and stored (see `output`).

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::format_description::{FormatDescriptionPatch, patch_format_description};
use super::manifest::{Manifest, ManifestExtent};
use super::output::Output;
use super::plan::{CopyStep, Cut};
use crate::checksum::ChecksumAlgorithm;
use crate::error::LogError;
use crate::event::{
    EventHeader, EventType, FIRST_EVENT, FLAG_ARTIFICIAL, FormatDescription, HEADER_LEN, MAGIC,
    rotate,
};
use crate::map::{FormatRef, ends_at, start_behind};
use crate::position::{BinlogFileName, BinlogPosition};
use crate::reader::{EventReader, RawEvent, Step};
use crate::transaction::Tracker;

impl Cut {
    /// Writes the segment and its manifest: temporary files, fsync, rename, fsync of the directory. `progress` is called
    /// with the bytes written so far. An error leaves what was there before; one of the last renames may leave a segment
    /// without its manifest, which nobody takes for whole.
    ///
    /// # Errors
    /// I/O; [`LogError::Corrupt`] for a source file that changed since the plan was made.
    pub fn write(
        &self,
        output: &Path,
        provider: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Manifest, LogError> {
        let manifest_path = Manifest::path_for(output);
        let (temporary, manifest_temporary) = (temporary(output), temporary(&manifest_path));
        let result = self.write_files(
            output,
            &manifest_path,
            &temporary,
            &manifest_temporary,
            provider,
            progress,
        );
        if result.is_err() {
            for leftover in [&temporary, &manifest_temporary] {
                // The error that counts is the first one; these files are of no use to anyone.
                let _ = std::fs::remove_file(leftover);
            }
        }
        result
    }

    fn write_files(
        &self,
        output: &Path,
        manifest_path: &Path,
        temporary: &Path,
        manifest_temporary: &Path,
        provider: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Manifest, LogError> {
        let mut copy = Copy::new(create(temporary)?, temporary, self, progress);
        copy.run()?;
        let manifest = copy.finish(provider)?;
        let mut file = create(manifest_temporary)?;
        file.write_all(&manifest.to_json())
            .map_err(LogError::io("write", manifest_temporary))?;
        file.sync_all()
            .map_err(LogError::io("sync", manifest_temporary))?;
        // The manifest comes last, and one of a segment that is replaced goes first: wherever a crash ends this, no
        // manifest vouches for bytes that are not its own.
        match std::fs::remove_file(manifest_path) {
            Ok(()) => sync_directory(output)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(LogError::io("remove", manifest_path)(e)),
        }
        std::fs::rename(temporary, output).map_err(LogError::io("rename", temporary))?;
        sync_directory(output)?;
        std::fs::rename(manifest_temporary, manifest_path)
            .map_err(LogError::io("rename", manifest_temporary))?;
        sync_directory(output)?;
        Ok(manifest)
    }
}

/// Makes the names in the directory of a file durable.
fn sync_directory(file: &Path) -> Result<(), LogError> {
    let directory = file
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(LogError::io("sync", directory))
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn create(path: &Path) -> Result<File, LogError> {
    // Segments hold user data.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(LogError::io("create", path))
}

/// A copy in progress.
struct Copy<'a> {
    cut: &'a Cut,
    output: Output<'a>,
    progress: &'a mut dyn FnMut(u64),
    tracker: Tracker,
    /// Setting of the file reached, for made-up Rotates.
    checksum: ChecksumAlgorithm,
    extents: Vec<ManifestExtent>,
    events: u64,
    transactions: u64,
    whole_end: Option<BinlogPosition>,
    original: Option<Vec<u8>>,
    made_up: Vec<u64>,
}

impl<'a> Copy<'a> {
    fn new(file: File, path: &'a Path, cut: &'a Cut, progress: &'a mut dyn FnMut(u64)) -> Self {
        Self {
            cut,
            output: Output::new(file, path, cut.bytes()),
            progress,
            tracker: Tracker::resume(cut.starts, cut.range.from.offset),
            checksum: ChecksumAlgorithm::None,
            extents: Vec::new(),
            events: 0,
            transactions: 0,
            whole_end: None,
            original: None,
            made_up: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), LogError> {
        self.put(&MAGIC)?;
        if let Some(head) = &self.cut.head {
            self.head(head)?;
        }
        for step in &self.cut.steps {
            if step.rotate {
                self.rotate_to(&step.file)?;
            }
            self.step(step)?;
        }
        if let Some(file) = &self.cut.tail_rotate {
            self.rotate_to(file)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        if self.output.put(bytes)? {
            (self.progress)(self.output.written());
        }
        Ok(())
    }

    /// The format description before a range that starts beyond 4 (or behind the end of a file).
    fn head(&mut self, format: &FormatRef) -> Result<(), LogError> {
        let path = self.source(format.source);
        let mut raw = Vec::new();
        super::read_range(
            &path,
            format.offset,
            u64::from(format.header.event_size),
            &mut |block| {
                raw.extend_from_slice(block);
                Ok(())
            },
        )?;
        self.check_format(&raw, &path, format.offset)?;
        let zero_created = self.cut.range.from.offset > FIRST_EVENT;
        self.put(&patch_format_description(
            &raw,
            FormatDescriptionPatch {
                zero_created,
                zero_log_pos: false,
            },
        ))?;
        self.original = Some(raw);
        Ok(())
    }

    fn check_format(&mut self, raw: &[u8], path: &Path, offset: u64) -> Result<(), LogError> {
        let Some(description) = FormatDescription::parse(raw) else {
            return Err(LogError::Corrupt {
                path: path.to_owned(),
                offset,
                expected: "a FORMAT_DESCRIPTION_EVENT".to_owned(),
                found: "something else".to_owned(),
            });
        };
        self.checksum = description.checksum;
        Ok(())
    }

    fn source(&self, index: usize) -> PathBuf {
        self.cut.sources.get(index).cloned().unwrap_or_default()
    }

    fn step(&mut self, step: &CopyStep) -> Result<(), LogError> {
        let path = self.source(step.source);
        let segment_offset = self.output.written();
        let mut reader = EventReader::open(&path)?;
        reader.read_ahead();
        let file = reader.file();
        reader.seek(step.at, step.checksum);
        let mut expected = step.from;
        let mut whole_end = None;
        while reader.offset() < step.end_at {
            let offset = reader.offset();
            let changed = |found: String| LogError::Corrupt {
                path: path.clone(),
                offset,
                expected: format!(
                    "the event at {}:{expected} as it was a moment ago",
                    step.file
                ),
                found,
            };
            let event = match reader.step()? {
                Step::Event(event) => event,
                Step::End(end) => return Err(changed(format!("{end:?}"))),
            };
            let start = if step.sparse {
                start_behind(&event.header, expected)
            } else {
                expected
            };
            let end = start + u64::from(event.header.event_size);
            if !ends_at(&event.header, end) || end > step.to || event.end() > step.end_at {
                return Err(changed(format!(
                    "an event with log_pos {}",
                    event.header.log_pos
                )));
            }
            if self.tracker.feed(&event, start).is_some() {
                self.transactions += 1;
                whole_end = Some(end);
            }
            self.events += 1;
            self.event(&event, &file, &path)?;
            expected = end;
        }
        if let Some(end) = whole_end {
            self.whole_end = Some(BinlogPosition::new(step.file.clone(), end));
        }
        self.checksum = step.checksum;
        let length = self.output.written() - segment_offset;
        match self.extents.last_mut() {
            Some(last)
                if last.file == step.file
                    && last.segment_offset + last.length == segment_offset =>
            {
                last.to = step.to;
                last.length += length;
            }
            _ => self.extents.push(ManifestExtent {
                file: step.file.clone(),
                from: step.from,
                to: step.to,
                segment_offset,
                length,
            }),
        }
        Ok(())
    }

    fn event(&mut self, event: &RawEvent<'_>, file: &File, path: &Path) -> Result<(), LogError> {
        if event.type_code() == EventType::FORMAT_DESCRIPTION {
            if self.original.is_none() {
                self.original = Some(event.bytes.to_vec());
            }
            return self.put(&patch_format_description(
                event.bytes,
                FormatDescriptionPatch::default(),
            ));
        }
        self.put(event.bytes)?;
        if !event.is_whole() {
            let done = event.bytes.len() as u64;
            let rest = u64::from(event.header.event_size) - done;
            super::read_open_range(file, path, event.offset + done, rest, &mut |block| {
                self.put(block)
            })?;
        }
        Ok(())
    }

    /// A Rotate to the start of `file` that the provider does not have.
    fn rotate_to(&mut self, file: &BinlogFileName) -> Result<(), LogError> {
        self.made_up.push(self.output.written());
        let event = made_up_rotate(file, self.cut.origin, self.checksum);
        self.tracker = Tracker::outside();
        self.put(&event)
    }

    fn finish(self, provider: &str) -> Result<Manifest, LogError> {
        let (size, digest) = self.output.finish()?;
        (self.progress)(size);
        Ok(Manifest {
            format_version: Manifest::VERSION,
            range: self.cut.range.clone(),
            starts: self.cut.starts,
            extents: self.extents,
            events: self.events,
            transactions: self.transactions,
            whole_end: self.whole_end,
            size,
            sha256: hex::encode(digest),
            provider: provider.to_owned(),
            dropped_bytes: self.cut.dropped_bytes,
            original_format_description: hex::encode(
                self.cut
                    .original
                    .clone()
                    .or(self.original)
                    .unwrap_or_default(),
            ),
            made_up_rotates: self.made_up,
        })
    }
}

/// An artificial Rotate to the start of a file.
pub(super) fn made_up_rotate(
    file: &BinlogFileName,
    server_id: u32,
    checksum: ChecksumAlgorithm,
) -> Vec<u8> {
    let body = rotate::body(&BinlogPosition::new(file.clone(), FIRST_EVENT));
    // A file name is at most 512 bytes long.
    let size = HEADER_LEN + checksum.len() + u32::try_from(body.len()).unwrap_or_default();
    let header = EventHeader {
        timestamp: 0,
        type_code: EventType::ROTATE,
        server_id,
        event_size: size,
        log_pos: 0,
        flags: FLAG_ARTIFICIAL,
    };
    let mut event = header.to_bytes().to_vec();
    event.extend_from_slice(&body);
    if checksum == ChecksumAlgorithm::Crc32 {
        let sum = crc32fast::hash(&event);
        event.extend_from_slice(&sum.to_le_bytes());
    }
    event
}
