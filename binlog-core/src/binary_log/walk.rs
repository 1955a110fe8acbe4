//! The walk over the files of a binary log: each event must end at the place its header names, each file but the newest at
//! an event, each Rotate leads to the next file. What follows the last whole event is classified.

use super::BinaryLogs;
use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::{EventType, FIRST_EVENT, FormatDescription, rotate};
use crate::map::{FormatRef, Join, Map, MapBuilder, ends_at};
use crate::position::{BinlogFileName, BinlogPosition};
use crate::reader::{EventReader, FileEnd, Step};
use crate::relay_log::Closing;
use crate::segment::draft::{Draft, Walked};

/// A segment that is written on the way.
pub(super) struct Writing<'a> {
    pub(super) draft: &'a mut Draft,
    /// Gets the bytes written so far.
    pub(super) progress: &'a mut dyn FnMut(u64),
}

impl BinaryLogs {
    /// Reads the files `first..end`, up to the first damage.
    pub(super) fn walk_files(&self, first: usize, end: usize) -> Result<Map, LogError> {
        self.walk_and_write(first, end, None)
    }

    /// As [`Self::walk_files`], with a segment being written on the way.
    pub(super) fn walk_and_write(
        &self,
        first: usize,
        end: usize,
        mut writing: Option<Writing<'_>>,
    ) -> Result<Map, LogError> {
        let mut builder = MapBuilder::new();
        let mut sources = Vec::new();
        let mut walked = 0;
        let mut log_end = LogEnd::Clean {
            file: String::new(),
            offset: 0,
            detail: "no file".to_owned(),
        };
        for file in self.files.iter().take(end).skip(first) {
            let path = self.path(file);
            let mut reader = EventReader::open(&path)?;
            reader.read_ahead();
            let source = sources.len();
            sources.push(path.clone());
            let join = if source == 0 {
                Join::Broken
            } else {
                Join::NextFile
            };
            builder.go_to(
                BinlogPosition::new(file.clone(), FIRST_EVENT),
                join,
                source,
                FIRST_EVENT,
            );
            let mut closing = Closing::default();
            let mut file_end = walk_file(
                &mut reader,
                &mut builder,
                &mut closing,
                file,
                source,
                writing.as_mut(),
            )?;
            if let Some(writing) = &mut writing {
                writing.draft.flush(&mut reader, writing.progress);
                writing.draft.end_file(&builder);
            }
            if let FileEnd::Torn { offset, detail } = &file_end
                && self.files.last() != Some(file)
            {
                // Only the last file of a crashed server may be cut off; behind any other, transactions would be lost.
                file_end = FileEnd::Corrupt {
                    offset: *offset,
                    expected: "a whole event, since a later file exists".to_owned(),
                    found: detail.clone(),
                };
            }
            walked += reader.offset();
            log_end = closing.end(file.as_str(), reader.offset(), file_end.clone());
            if !matches!(file_end, FileEnd::Boundary) {
                break;
            }
        }
        Ok(builder.finish(sources, log_end, walked))
    }
}

/// Tells a cut from a damaged length: a server writes where an event ends into its header, and a crash cuts events off
/// but does not lengthen them. A length that fits neither is damage, and whole transactions may stand behind it.
fn cut_or_damaged(reader: &EventReader, end: FileEnd) -> FileEnd {
    match (&end, reader.cut_off()) {
        (FileEnd::Torn { offset, .. }, Some(header)) => {
            let claimed = offset.saturating_add(u64::from(header.event_size));
            if ends_at(header, claimed) {
                return end;
            }
            FileEnd::Corrupt {
                offset: *offset,
                expected: format!("log_pos {claimed} modulo 2^32 by the length of the event"),
                found: header.log_pos.to_string(),
            }
        }
        _ => end,
    }
}

/// Reads one file to its end or to the first event that does not belong there.
fn walk_file(
    reader: &mut EventReader,
    builder: &mut MapBuilder,
    closing: &mut Closing,
    file: &BinlogFileName,
    source: usize,
    mut writing: Option<&mut Writing<'_>>,
) -> Result<FileEnd, LogError> {
    let (open, path) = (reader.file(), reader.path().to_owned());
    let walked = Walked {
        file: &open,
        path: &path,
        source,
    };
    loop {
        let event = match reader.step_buffered() {
            Some(event) => event,
            None => {
                if let Some(writing) = &mut writing {
                    writing.draft.flush(reader, writing.progress);
                }
                match reader.step()? {
                    Step::Event(event) => event,
                    Step::End(end) => return Ok(cut_or_damaged(reader, end)),
                }
            }
        };
        let corrupt = |expected: String, found: String| FileEnd::Corrupt {
            offset: event.offset,
            expected,
            found,
        };
        if closing.last() == Some(EventType::ROTATE) {
            return Ok(corrupt(
                "the end of the file behind a ROTATE_EVENT".to_owned(),
                event.type_code().to_string(),
            ));
        }
        if !ends_at(&event.header, event.end()) {
            return Ok(corrupt(
                format!("log_pos {} modulo 2^32", event.end()),
                event.header.log_pos.to_string(),
            ));
        }
        let mut checksum = event.checksum;
        let mut rotate_to = None;
        match event.type_code() {
            EventType::FORMAT_DESCRIPTION => {
                checksum = FormatDescription::parse(event.bytes).map_or(checksum, |d| d.checksum);
                builder.set_format(FormatRef {
                    source,
                    offset: event.offset,
                    header: event.header,
                    checksum,
                });
            }
            EventType::ROTATE => match rotate::parse(event.body()) {
                Some(to) if to.offset == FIRST_EVENT && to.file == file.next() => {
                    rotate_to = Some(to)
                }
                Some(to) => {
                    return Ok(corrupt(
                        format!("a ROTATE_EVENT to {}:4", file.next()),
                        to.to_string(),
                    ));
                }
                None => {
                    return Ok(corrupt(
                        "a ROTATE_EVENT that names a file".to_owned(),
                        "none".to_owned(),
                    ));
                }
            },
            _ => {}
        }
        closing.see(&event);
        let ended = builder.add(&event, checksum, source, rotate_to);
        if let Some(writing) = &mut writing {
            let Writing { draft, progress } = writing;
            draft.take(&event, walked, builder, ended, progress);
        }
    }
}
