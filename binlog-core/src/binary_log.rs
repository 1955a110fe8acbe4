//! The primary's own binary log as a provider.
//!
//! Every file that is read is walked from its start: each event must end at the place its header names and carry a right
//! checksum. What follows the last whole event of the newest file is classified; an older file must end at an event.

use std::path::{Path, PathBuf};

use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::{EventType, FIRST_EVENT, FormatDescription, rotate};
use crate::extent::{EventDigest, Survey};
use crate::index::read_index;
use crate::map::{FormatRef, Join, Map, MapBuilder, ends_at};
use crate::position::{BinlogFileName, BinlogPosition};
use crate::reader::{EventReader, FileEnd, Step};
use crate::relay_log::Closing;
use crate::segment::plan::{self, CutPlan, NothingReason, NothingToCut};

/// All files of a server's binary log, in order.
#[derive(Debug)]
pub struct BinaryLogs {
    directory: PathBuf,
    files: Vec<BinlogFileName>,
}

impl BinaryLogs {
    /// Opens the log `basename` (directory and base name: `/data/mysql-bin`).
    ///
    /// Only names `base.DIGITS` count. If the index file is there, each file it names must exist, and files in the
    /// directory beyond its last entry are included (a crash may come between the creation of a file and its entry);
    /// files before its first entry are left over from a purge and are not. Numbers must follow each other.
    ///
    /// # Errors
    /// No files, a missing file, an unreadable directory or index.
    pub fn open(basename: &Path) -> Result<Self, LogError> {
        let directory = basename
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
            .to_owned();
        let base = basename
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let mut present: Vec<BinlogFileName> = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(LogError::io("list", &directory))? {
            let entry = entry.map_err(LogError::io("list", &directory))?;
            let name = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<BinlogFileName>().ok());
            present.extend(name.filter(|name| name.base() == base));
        }
        present.sort();
        let mut index = basename.as_os_str().to_owned();
        index.push(".index");
        let index = PathBuf::from(index);
        let listed = match index.try_exists() {
            Ok(true) => listed_files(&index, &directory, base)?,
            Ok(false) => Vec::new(),
            Err(source) => {
                return Err(LogError::Io {
                    action: "open",
                    path: index,
                    source,
                });
            }
        };
        if let Some(missing) = listed.iter().find(|name| !present.contains(name)) {
            let context = format!(": {} names it", index.display());
            return Err(LogError::Missing {
                path: directory.join(missing.as_str()),
                context,
            });
        }
        let files: Vec<BinlogFileName> = match listed.first() {
            Some(first) => present.into_iter().filter(|name| name >= first).collect(),
            None => present,
        };
        if files.is_empty() {
            return Err(LogError::NoFiles {
                basename: basename.to_owned(),
            });
        }
        for pair in files.windows(2) {
            if let [a, b] = pair
                && a.next().sequence() != b.sequence()
            {
                let context = format!(": {a} and {b} are there");
                return Err(LogError::Missing {
                    path: directory.join(a.next().as_str()),
                    context,
                });
            }
        }
        Ok(Self { directory, files })
    }

    /// The files, ascending.
    #[must_use]
    pub fn files(&self) -> &[BinlogFileName] {
        &self.files
    }

    /// What is there from `from` on (`None`: from the newest file that holds a transaction).
    ///
    /// # Errors
    /// An unreadable or encrypted file; `from` not held or no boundary. A position beyond the end of the newest file is
    /// [`LogError::NotHeld`].
    pub fn survey(&self, from: Option<&BinlogPosition>) -> Result<Survey, LogError> {
        let map = match from {
            Some(from) => {
                let map = self.walk(self.index_of(from)?)?;
                map.find(from)?;
                map
            }
            None => self.walk_newest()?,
        };
        let mut ranges = map.ranges();
        if let (Some(range), Some(from)) = (ranges.first_mut(), from) {
            range.from = from.clone();
        }
        let last_transaction = map
            .last_transaction()
            .filter(|t| from.is_none_or(|from| t.end > *from));
        let start = || {
            from.cloned()
                .or_else(|| map.pieces.first().map(|piece| piece.start()))
        };
        let start_is_whole = match from {
            Some(from) => map.tracker_at(map.find(from)?)?.is_outside(),
            None => true,
        };
        Ok(Survey {
            whole_end: last_transaction
                .as_ref()
                .map(|t| t.end.clone())
                .or_else(|| start().filter(|_| start_is_whole)),
            data_end: map.data_end(),
            ranges,
            holes: Vec::new(),
            end: map.end.clone(),
            last_transaction,
            walked_bytes: map.walked_bytes,
        })
    }

    /// The last event of the same file that ends at or before `before`; `None` if the file ends before it. Events that a relay log does not store (see
    /// [`crate::transaction::is_bookkeeping`]) do not count, so that providers of both kinds give the same answer.
    ///
    /// # Errors
    /// As [`Self::survey`].
    pub fn event_before(&self, before: &BinlogPosition) -> Result<Option<EventDigest>, LogError> {
        let index = self.index_of(before)?;
        self.walk_files(index, index + 1)?.event_before(before)
    }

    /// A plan to cut `[from, to)`, or from `from` to the end of the last whole transaction.
    ///
    /// # Errors
    /// As [`Self::survey`]; [`LogError::InsideTransaction`] for a `to` inside one; [`LogError::Corrupt`] for a damaged
    /// file that is not the newest. A log that ends before `from` is [`CutPlan::Nothing`], not an error.
    pub fn plan_cut(
        &self,
        from: &BinlogPosition,
        to: Option<&BinlogPosition>,
    ) -> Result<CutPlan, LogError> {
        if let Some(newest) = self.files.last()
            && from.file > *newest
            && from.file.base() == newest.base()
        {
            let end = self.walk_files(self.files.len() - 1, self.files.len())?.end;
            return Ok(CutPlan::Nothing(NothingToCut {
                at: from.clone(),
                end,
                reason: NothingReason::BeyondEnd,
            }));
        }
        let map = self.walk(self.index_of(from)?)?;
        self.require_whole(&map)?;
        let Some(to) = to else {
            return plan::to_last_whole(&map, from);
        };
        let place = map.find(to)?;
        if let (Some(start), Some(piece)) = (
            map.tracker_at(place)?.open_since(),
            map.pieces.get(place.piece),
        ) {
            let start = BinlogPosition::new(piece.file.clone(), start);
            return Err(LogError::InsideTransaction {
                position: to.clone(),
                start,
            });
        }
        plan::exact(
            &map,
            &crate::position::StreamRange::new(from.clone(), to.clone()),
        )
    }

    fn path(&self, file: &BinlogFileName) -> PathBuf {
        self.directory.join(file.as_str())
    }

    fn index_of(&self, position: &BinlogPosition) -> Result<usize, LogError> {
        self.files
            .iter()
            .position(|file| *file == position.file)
            .ok_or_else(|| {
                let ends = self.files.first().zip(self.files.last());
                let held = ends.map(|(first, last)| {
                    let at = |file: &BinlogFileName| BinlogPosition::new(file.clone(), FIRST_EVENT);
                    crate::position::StreamRange::new(at(first), at(&last.next()))
                });
                LogError::NotHeld {
                    position: position.clone(),
                    held: held.into_iter().collect(),
                }
            })
    }

    /// A damaged file with others behind it: what they hold does not follow what was read.
    fn require_whole(&self, map: &Map) -> Result<(), LogError> {
        let newest = self.files.last().map(BinlogFileName::as_str);
        match &map.end {
            LogEnd::Torn {
                file,
                offset,
                detail,
            }
            | LogEnd::Corrupt {
                file,
                offset,
                detail,
            } if Some(file.as_str()) != newest => Err(LogError::Corrupt {
                path: self.directory.join(file),
                offset: *offset,
                expected: "whole events, since newer files exist".to_owned(),
                found: detail.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// From the newest file that holds a transaction; from the oldest if none does.
    fn walk_newest(&self) -> Result<Map, LogError> {
        let mut first = self.files.len().saturating_sub(1);
        loop {
            let map = self.walk(first)?;
            if first == 0 || map.last_transaction().is_some() {
                return Ok(map);
            }
            first -= 1;
        }
    }

    fn walk(&self, first: usize) -> Result<Map, LogError> {
        self.walk_files(first, self.files.len())
    }

    /// Reads the files `first..end`, up to the first damage.
    fn walk_files(&self, first: usize, end: usize) -> Result<Map, LogError> {
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
            let mut file_end = walk_file(&mut reader, &mut builder, &mut closing, file, source)?;
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
) -> Result<FileEnd, LogError> {
    loop {
        let event = match reader.step()? {
            Step::Event(event) => event,
            Step::End(end) => return Ok(cut_or_damaged(reader, end)),
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
        builder.add(&event, checksum, source, rotate_to);
    }
}

/// The names in an index file.
fn listed_files(
    index: &Path,
    directory: &Path,
    base: &str,
) -> Result<Vec<BinlogFileName>, LogError> {
    let mut names = Vec::new();
    for (i, path) in read_index(index)?.iter().enumerate() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let bad = |expected| LogError::BadInfoFile {
            path: index.to_owned(),
            line: i + 1,
            expected,
            found: name.to_owned(),
        };
        let parsed: BinlogFileName = name
            .parse()
            .map_err(|_| bad("a file name that ends in a number"))?;
        if parsed.base() != base {
            return Err(bad("a file of this log"));
        }
        if !directory.join(name).exists() {
            let context = format!(": {} names it", index.display());
            return Err(LogError::Missing {
                path: directory.join(name),
                context,
            });
        }
        names.push(parsed);
    }
    Ok(names)
}
