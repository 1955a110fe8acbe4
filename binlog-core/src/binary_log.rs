//! The primary's own binary log as a provider.
//!
//! Every file that is read is walked from its start: each event must end at the place its header names and carry a right
//! checksum. What follows the last whole event of the newest file is classified; an older file must end at an event.

mod walk;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use self::walk::Writing;
use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::FIRST_EVENT;
use crate::extent::{EventDigest, Survey};
use crate::gtid::{GtidSet, GtidState};
use crate::gtid_place;
use crate::index::read_index;
use crate::map::{Map, Place};
use crate::position::{BinlogFileName, BinlogPosition};
use crate::segment::draft::Draft;
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
        let mut pages = None;
        for entry in std::fs::read_dir(&directory).map_err(LogError::io("list", &directory))? {
            let entry = entry.map_err(LogError::io("list", &directory))?;
            let name = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<BinlogFileName>().ok());
            present.extend(name.filter(|name| name.base() == base));
            if is_innodb_based(&entry.file_name(), base) {
                pages = Some(entry.path());
            }
        }
        if let Some(path) = pages.filter(|_| present.is_empty()) {
            return Err(LogError::InnoDb { path });
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

    /// The log that these files of a directory are, which follow each other.
    pub(crate) fn of_files(directory: PathBuf, files: Vec<BinlogFileName>) -> Self {
        Self { directory, files }
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

    /// Where a server that has `held` stands: the last place before which it has every transaction. `None` if this log cannot
    /// tell: what the server lacks may be purged, or a transaction has no GTID.
    ///
    /// # Errors
    /// An unreadable or encrypted file.
    pub fn place_of(&self, held: &GtidState) -> Result<Option<BinlogPosition>, LogError> {
        for (index, file) in self.files.iter().enumerate().rev() {
            let head = gtid_place::head(&self.path(file))?;
            if head.is_some_and(|head| held.covers(&head)) {
                return gtid_place::in_binary_log(&self.walk(index)?, held);
            }
        }
        Ok(None)
    }

    /// MySQL: every GTID that this log has ever held, purged files included. `None` if the heads of its files do not say.
    ///
    /// # Errors
    /// An unreadable or encrypted file.
    pub fn gtids_ever_held(&self) -> Result<Option<GtidSet>, LogError> {
        for (index, file) in self.files.iter().enumerate().rev() {
            if let Some(GtidState::MySql(before)) = gtid_place::head(&self.path(file))? {
                let map = self.walk(index)?;
                let first = Place {
                    piece: 0,
                    offset: FIRST_EVENT,
                };
                return Ok(Some(before.union(&gtid_place::gtids(&map, first)?)));
            }
        }
        Ok(None)
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
        if let Some(nothing) = self.beyond_end(from)? {
            return Ok(nothing);
        }
        let map = self.walk(self.index_of(from)?)?;
        let Some(to) = to else {
            return self.to_last_whole(&map, from);
        };
        self.require_whole(&map)?;
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

    /// The plan that [`Self::plan_cut`] makes to the end of the last whole transaction, for a segment `output` of which
    /// most is written while the log is read. [`crate::Cut::write`] to `output` then has little left to do; until then, and
    /// if it is never called, the same plan and the same errors come of it, and no file stays behind. `progress` is
    /// called with the bytes written so far.
    ///
    /// # Errors
    /// As [`Self::plan_cut`]; what goes wrong with `output` is for [`crate::Cut::write`] to say.
    pub fn plan_and_draft(
        &self,
        from: &BinlogPosition,
        output: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<CutPlan, LogError> {
        if let Some(nothing) = self.beyond_end(from)? {
            return Ok(nothing);
        }
        let first = self.index_of(from)?;
        let mut draft = Draft::new(from, output, self.bytes_from(from)?);
        let writing = Writing {
            draft: &mut draft,
            progress,
        };
        let map = self.walk_and_write(first, self.files.len(), Some(writing))?;
        Ok(match self.to_last_whole(&map, from)? {
            CutPlan::Cut(cut) => CutPlan::Cut(cut.with_draft(draft)),
            nothing => nothing,
        })
    }

    /// Bytes from a position to the end of the newest file, whatever they are: no cut from there takes more, a few hundred
    /// aside.
    ///
    /// # Errors
    /// A file of which the size cannot be read; `from` not held.
    pub fn bytes_from(&self, from: &BinlogPosition) -> Result<u64, LogError> {
        let mut bytes = 0_u64;
        for file in self.files.iter().skip(self.index_of(from)?) {
            let path = self.path(file);
            bytes += std::fs::metadata(&path)
                .map_err(LogError::io("read the size of", &path))?
                .len();
        }
        Ok(bytes.saturating_sub(from.offset))
    }

    /// Nothing is there of the file in which a cut is to start, nor of later ones.
    fn beyond_end(&self, from: &BinlogPosition) -> Result<Option<CutPlan>, LogError> {
        let beyond =
            |newest: &BinlogFileName| from.file > *newest && from.file.base() == newest.base();
        if !self.files.last().is_some_and(beyond) {
            return Ok(None);
        }
        let end = self.walk_files(self.files.len() - 1, self.files.len())?.end;
        Ok(Some(CutPlan::Nothing(NothingToCut {
            at: from.clone(),
            end,
            reason: NothingReason::BeyondEnd,
        })))
    }

    fn to_last_whole(&self, map: &Map, from: &BinlogPosition) -> Result<CutPlan, LogError> {
        self.require_whole(map)?;
        plan::to_last_whole(map, from)
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
}

/// `BASE-NUMBER.ibb`: MariaDB from 12.3 on with `binlog_storage_engine=innodb`.
fn is_innodb_based(name: &OsStr, base: &str) -> bool {
    name.to_str()
        .and_then(|name| {
            name.strip_prefix(base)?
                .strip_prefix('-')?
                .strip_suffix(".ibb")
        })
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
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
