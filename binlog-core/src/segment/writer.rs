//! Writes a segment: temporary files, fsync, rename, fsync of the directory. Memory is constant; every event is verified
//! again while it is copied, unless it was written when the plan was made (see `draft`). Digest and disk work beside (see
//! `output`).

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::copying::Copying;
use super::draft::Written;
use super::manifest::Manifest;
use super::output::Output;
use super::plan::{CopyStep, Cut};
use crate::error::LogError;
use crate::map::{ends_at, start_behind};
use crate::position::BinlogPosition;
use crate::reader::{EventReader, Step};
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
        let draft = self.draft.lock().ok().and_then(|mut draft| draft.take());
        let Written {
            copying,
            end,
            whole_end,
        } = match draft.and_then(|draft| draft.adopt(self, temporary)) {
            Some(written) => written?,
            None => self.copy(temporary, progress)?,
        };
        let manifest = copying.finish(self, provider, end, whole_end)?;
        progress(end);
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
    /// Copies what the plan says.
    fn copy(&self, temporary: &Path, progress: &mut dyn FnMut(u64)) -> Result<Written, LogError> {
        let output = Output::new(create(temporary)?, temporary, self.bytes());
        let mut copying = Copying::new(output)?;
        if let Some(head) = &self.head {
            copying.head(&self.source(head.source), head, self.range.from.offset)?;
        }
        let mut tracker = Tracker::resume(self.starts, self.range.from.offset);
        let mut whole_end = None;
        for step in &self.steps {
            if step.rotate {
                copying.rotate_to(&step.file, self.origin)?;
                tracker = Tracker::outside();
            }
            copying.begin(step.checksum);
            if let Some(end) = self.copy_step(step, &mut copying, &mut tracker, progress)? {
                whole_end = Some(BinlogPosition::new(step.file.clone(), end));
            }
            copying.end(step);
        }
        if let Some(file) = &self.tail_rotate {
            copying.rotate_to(file, self.origin)?;
        }
        let end = copying.written();
        Ok(Written {
            copying,
            end,
            whole_end,
        })
    }

    /// Copies the events of a step, each verified again; yields where the last transaction ends.
    fn copy_step(
        &self,
        step: &CopyStep,
        copying: &mut Copying,
        tracker: &mut Tracker,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<u64>, LogError> {
        let path = self.source(step.source);
        let mut reader = EventReader::open(&path)?;
        reader.read_ahead();
        let file = reader.file();
        reader.seek_to(step.at, step.checksum, step.from);
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
            let event = match reader.step_buffered() {
                Some(event) => event,
                None => {
                    copying.flush(&mut reader, progress)?;
                    match reader.step()? {
                        Step::Event(event) => event,
                        Step::End(end) => return Err(changed(format!("{end:?}"))),
                    }
                }
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
            if tracker.feed(&event, start).is_some() {
                copying.counts.transactions += 1;
                whole_end = Some(end);
            }
            copying.event(&event, (&file, &path), progress)?;
            expected = end;
        }
        copying.flush(&mut reader, progress)?;
        Ok(whole_end)
    }

    fn source(&self, index: usize) -> PathBuf {
        self.sources.get(index).cloned().unwrap_or_default()
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

pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

pub(super) fn create(path: &Path) -> Result<File, LogError> {
    // Segments hold user data.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(LogError::io("create", path))
}
