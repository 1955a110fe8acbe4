//! The events of a range on their way into a segment, and what its manifest says of them.
//!
//! Whoever walks the source hands over each event right after it was verified, and calls [`Copying::flush`] before the
//! reader reads on. Events that stand behind each other in the reader's buffer go from there to the file in one piece.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

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
use crate::map::FormatRef;
use crate::position::{BinlogFileName, BinlogPosition};
use crate::reader::{EventReader, RawEvent};

/// A segment being written.
#[derive(Debug)]
pub(super) struct Copying {
    output: Output,
    /// What was taken over and is still in the reader's buffer only: from where to where in its file.
    run: Range<u64>,
    /// Setting of the file reached, for made-up Rotates.
    checksum: ChecksumAlgorithm,
    /// Offset in the segment at which the current step began.
    step_at: u64,
    extents: Vec<ManifestExtent>,
    pub(super) counts: Counts,
    original: Option<Vec<u8>>,
    made_up: Vec<u64>,
}

/// How far a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) events: u64,
    pub(super) transactions: u64,
}

impl Copying {
    /// With the magic number.
    pub(super) fn new(mut output: Output) -> Result<Self, LogError> {
        output.put(&MAGIC)?;
        Ok(Self {
            output,
            run: 0..0,
            checksum: ChecksumAlgorithm::None,
            step_at: 0,
            extents: Vec::new(),
            counts: Counts::default(),
            original: None,
            made_up: Vec::new(),
        })
    }

    /// Bytes of the segment so far.
    pub(super) fn written(&self) -> u64 {
        self.output.written() + (self.run.end - self.run.start)
    }

    /// The format description, which stands in the file `path`, before a range that starts at `from`, beyond 4 or behind the
    /// end of a file.
    pub(super) fn head(
        &mut self,
        path: &Path,
        format: &FormatRef,
        from: u64,
    ) -> Result<(), LogError> {
        let mut raw = Vec::new();
        let size = u64::from(format.header.event_size);
        super::read_range(path, format.offset, size, &mut |block| {
            raw.extend_from_slice(block);
            Ok(())
        })?;
        let Some(description) = FormatDescription::parse(&raw) else {
            return Err(LogError::Corrupt {
                path: path.to_owned(),
                offset: format.offset,
                expected: "a FORMAT_DESCRIPTION_EVENT".to_owned(),
                found: "something else".to_owned(),
            });
        };
        self.checksum = description.checksum;
        let patch = FormatDescriptionPatch {
            zero_created: from > FIRST_EVENT,
            zero_log_pos: false,
        };
        self.output.put(&patch_format_description(&raw, patch))?;
        self.original = Some(raw);
        Ok(())
    }

    /// A Rotate to the start of `file` that the provider does not have.
    pub(super) fn rotate_to(
        &mut self,
        file: &BinlogFileName,
        server_id: u32,
    ) -> Result<(), LogError> {
        self.made_up.push(self.written());
        let event = made_up_rotate(file, server_id, self.checksum);
        self.output.put(&event).map(drop)
    }

    /// The events of a step follow, made under the setting `checksum`.
    pub(super) fn begin(&mut self, checksum: ChecksumAlgorithm) {
        self.step_at = self.written();
        self.checksum = checksum;
    }

    /// The next event of the step, of the file `source` at `path`. `progress` gets the bytes written so far.
    #[inline]
    pub(super) fn event(
        &mut self,
        event: &RawEvent<'_>,
        source: (&File, &Path),
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), LogError> {
        self.counts.events += 1;
        if event.is_whole() && event.type_code() != EventType::FORMAT_DESCRIPTION {
            if self.run.is_empty() {
                self.run.start = event.offset;
            }
            self.run.end = event.end();
            return Ok(());
        }
        self.odd_event(event, source, progress)
    }

    /// One that is altered, or larger than a buffer: the reader handed it out after a flush.
    #[cold]
    fn odd_event(
        &mut self,
        event: &RawEvent<'_>,
        (file, path): (&File, &Path),
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), LogError> {
        if event.type_code() == EventType::FORMAT_DESCRIPTION {
            if self.original.is_none() {
                self.original = Some(event.bytes.to_vec());
            }
            let patched = patch_format_description(event.bytes, FormatDescriptionPatch::default());
            return self.output.put(&patched).map(drop);
        }
        self.output.put(event.bytes)?;
        let done = event.bytes.len() as u64;
        let rest = u64::from(event.header.event_size).saturating_sub(done);
        super::read_open_range(file, path, event.offset + done, rest, &mut |block| {
            if self.output.put(block)? {
                progress(self.output.written());
            }
            Ok(())
        })
    }

    /// Takes what is still in the reader's buffer out of it. To be called before every step that is not
    /// [`EventReader::step_buffered`], and at the end.
    pub(super) fn flush(
        &mut self,
        reader: &mut EventReader,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), LogError> {
        let run = std::mem::replace(&mut self.run, 0..0);
        if run.is_empty() {
            return Ok(());
        }
        let len = run.end - run.start;
        let (buffer, range) = reader.exchange(run, self.output.spare());
        if range.len() as u64 != len {
            let gone = std::io::Error::other("verified bytes are not in the buffer any more");
            return Err(LogError::io("copy", reader.path())(gone));
        }
        self.output.put_buffer(buffer, range)?;
        progress(self.output.written());
        Ok(())
    }

    /// The segment may end here, behind a whole transaction.
    pub(super) fn mark(&mut self) {
        self.output.mark(self.written());
    }

    /// All events of `step` were taken.
    pub(super) fn end(&mut self, step: &CopyStep) {
        let segment_offset = self.step_at;
        let length = self.written() - segment_offset;
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
    }

    /// Goes back to `end`, a place marked last, which is `to` in the primary's file.
    pub(super) fn go_back(&mut self, end: u64, to: u64, counts: Counts) {
        self.extents.retain(|extent| extent.segment_offset < end);
        if let Some(last) = self.extents.last_mut() {
            last.to = to;
            last.length = end - last.segment_offset;
        }
        self.made_up.retain(|at| *at < end);
        self.counts = counts;
    }

    /// Brings the segment, which ends at `end`, to the disk. What is behind that, a place marked last, goes.
    pub(super) fn finish(
        self,
        cut: &Cut,
        provider: &str,
        end: u64,
        whole_end: Option<BinlogPosition>,
    ) -> Result<Manifest, LogError> {
        let digest = self.output.finish(end)?;
        Ok(Manifest {
            format_version: Manifest::VERSION,
            range: cut.range.clone(),
            starts: cut.starts,
            extents: self.extents,
            events: self.counts.events,
            transactions: self.counts.transactions,
            whole_end,
            size: end,
            sha256: hex::encode(digest),
            provider: provider.to_owned(),
            dropped_bytes: cut.dropped_bytes,
            original_format_description: hex::encode(
                cut.original.clone().or(self.original).unwrap_or_default(),
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
