//! A directory in which somebody keeps copies of primaries' binary logs, without a server: a binlog server.
//!
//! `mysqlbinlog --raw --read-from-remote-server --stop-never` or a copying job puts the files there, under the primary's names.
//! There is no index file: names are ordered by number. After a failover files of the next primary may stand beside those of the
//! one before, or have taken the place of some of them.
//!
//! Guarantee: the files of one [`BinaryLogs`] that comes from here follow each other by number, name the same server as their
//! writer in their format descriptions, were begun one after the other, and each but the last is closed: it ends with the Rotate
//! to the next one, or with a Stop. Where one does not, the log ends before it. A copy that was broken off looks like the log of a
//! primary that crashed: nothing tells whether transactions are missing at its end, so nothing behind it counts. Whether the files
//! hold the wanted history only a comparison of events can tell.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::binary_log::BinaryLogs;
use crate::error::LogError;
use crate::event::{EventHeader, EventType, FIRST_EVENT, HEADER_LEN, rotate};
use crate::map::ends_at;
use crate::position::{BinlogFileName, BinlogPosition, ServerId, StreamRange};
use crate::reader::{EventReader, Step};

/// Most names told of files that are another server's.
const NAMES_TOLD: usize = 4;

/// The files of a directory that have the names of binary logs.
#[derive(Debug)]
pub struct LogDirectory {
    directory: PathBuf,
    /// Ascending: by base name, then by number.
    files: Vec<BinlogFileName>,
}

/// Who wrote a file, by its format description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    writer: ServerId,
    /// Seconds since 1970 at which the file was begun.
    begun: u32,
}

impl LogDirectory {
    /// Lists the directory; no file is opened.
    ///
    /// # Errors
    /// A directory that cannot be read, or without any file of such a name.
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        let listing = || LogError::io("list", directory);
        let mut files: Vec<BinlogFileName> = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(listing())? {
            let entry = entry.map_err(listing())?;
            // A file that is taken away meanwhile is no reason not to read the others.
            let is_file = std::fs::metadata(entry.path()).is_ok_and(|found| found.is_file());
            let name = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<BinlogFileName>().ok());
            files.extend(name.filter(|_| is_file));
        }
        if files.is_empty() {
            return Err(LogError::NoFiles {
                basename: directory.join("NAME"),
            });
        }
        files.sort();
        Ok(Self {
            directory: directory.to_owned(),
            files,
        })
    }

    /// The log of this primary from the file of `from` on, up to the file of `to`, if given. Without `from`: from the oldest file
    /// on that leads to its newest one.
    ///
    /// # Errors
    /// [`LogError::NotHeld`] if the file is not there, [`LogError::OtherWriter`] if it is another server's or nothing here is of
    /// this primary; an unreadable file.
    pub fn of(
        &self,
        primary: ServerId,
        from: Option<&BinlogPosition>,
        to: Option<&BinlogPosition>,
    ) -> Result<BinaryLogs, LogError> {
        let files = match from {
            Some(from) => self.chain_from(primary, from, to)?,
            None => self.chain_to_newest(primary)?,
        };
        Ok(BinaryLogs::of_files(self.directory.clone(), files))
    }

    /// The newest file of this primary and its size: how far the copying has come, without reading what is there.
    ///
    /// # Errors
    /// [`LogError::OtherWriter`] if there is none.
    pub fn newest(&self, primary: ServerId) -> Result<BinlogPosition, LogError> {
        let newest = self.newest_index(primary)?;
        let file = self.files.get(newest).cloned();
        let file = file.ok_or_else(|| self.of_others(primary))?;
        let path = self.directory.join(file.as_str());
        let size = std::fs::metadata(&path)
            .map_err(LogError::io("read the size of", &path))?
            .len();
        Ok(BinlogPosition::new(file, size))
    }

    fn chain_from(
        &self,
        primary: ServerId,
        from: &BinlogPosition,
        to: Option<&BinlogPosition>,
    ) -> Result<Vec<BinlogFileName>, LogError> {
        let first = self.files.iter().position(|name| *name == from.file);
        let first = first.ok_or_else(|| {
            // By their names: whose they are was not looked at.
            let mut named = self.files.iter().filter(|f| f.base() == from.file.base());
            let at = |file: &BinlogFileName| BinlogPosition::new(file.clone(), FIRST_EVENT);
            let oldest = named.next();
            let newest = named.next_back().or(oldest);
            let held = oldest.zip(newest);
            LogError::NotHeld {
                position: from.clone(),
                held: held
                    .map(|(oldest, newest)| StreamRange::new(at(oldest), at(&newest.next())))
                    .into_iter()
                    .collect(),
            }
        })?;
        let mut files: Vec<BinlogFileName> = Vec::new();
        let mut before: Option<Head> = None;
        let wanted = |name: &&BinlogFileName| to.is_none_or(|to| **name <= to.file);
        for name in self.files.iter().skip(first).take_while(wanted) {
            let follows = match files.last() {
                Some(last) => last.next() == *name && self.is_closed(last)?,
                None => true,
            };
            let head = match self.head(name)? {
                Some(head) if follows => head,
                // A file that was only just created holds nothing yet.
                _ => break,
            };
            if head.writer != primary || before.is_some_and(|before| before.begun > head.begun) {
                break;
            }
            before = Some(head);
            files.push(name.clone());
        }
        if files.is_empty() {
            return Err(self.of_others(primary));
        }
        Ok(files)
    }

    fn chain_to_newest(&self, primary: ServerId) -> Result<Vec<BinlogFileName>, LogError> {
        let newest = self.newest_index(primary)?;
        let mut files: Vec<BinlogFileName> = Vec::new();
        let mut after: Option<Head> = None;
        for name in self.files.iter().take(newest + 1).rev() {
            let leads = match files.last() {
                Some(next) => name.next() == *next && self.is_closed(name)?,
                None => true,
            };
            let head = match self.head(name)? {
                Some(head) if leads => head,
                _ => break,
            };
            if head.writer != primary || after.is_some_and(|after| head.begun > after.begun) {
                break;
            }
            after = Some(head);
            files.push(name.clone());
        }
        files.reverse();
        Ok(files)
    }

    /// Of several base names the one whose newest file was begun last.
    fn newest_index(&self, primary: ServerId) -> Result<usize, LogError> {
        let mut newest: Option<(u32, usize)> = None;
        let mut done: Option<&str> = None;
        for (index, name) in self.files.iter().enumerate().rev() {
            if done == Some(name.base()) {
                continue;
            }
            if let Some(head) = self.head(name)?.filter(|head| head.writer == primary) {
                done = Some(name.base());
                newest = newest.max(Some((head.begun, index)));
            }
        }
        newest
            .map(|(_, index)| index)
            .ok_or_else(|| self.of_others(primary))
    }

    /// `None` for what does not begin with a format description: it is no file of a log, or not yet.
    fn head(&self, name: &BinlogFileName) -> Result<Option<Head>, LogError> {
        let mut reader = match EventReader::open(&self.directory.join(name.as_str())) {
            Ok(reader) => reader,
            Err(LogError::NotABinlog { .. } | LogError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(match reader.step()? {
            Step::Event(event) if event.type_code() == EventType::FORMAT_DESCRIPTION => {
                Some(Head {
                    writer: ServerId(event.header.server_id),
                    begun: event.header.timestamp,
                })
            }
            Step::Event(_) | Step::End(_) => None,
        })
    }

    /// The file ends with the event with which its server closed it. What stands before that a walk has to prove.
    fn is_closed(&self, name: &BinlogFileName) -> Result<bool, LogError> {
        let next = name.next();
        let path = self.directory.join(name.as_str());
        let reading = || LogError::io("read", &path);
        let mut file = File::open(&path).map_err(LogError::io("open", &path))?;
        let size = file.metadata().map_err(reading())?.len();
        let longest = u64::from(HEADER_LEN) + 8 + next.as_str().len() as u64 + 4;
        let start = size.saturating_sub(longest).max(FIRST_EVENT);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(start)).map_err(reading())?;
        file.take(longest)
            .read_to_end(&mut tail)
            .map_err(reading())?;
        let closes = |event: &[u8], checksum: usize| {
            let Some(header) = EventHeader::parse(event) else {
                return false;
            };
            let body = event.len().saturating_sub(checksum);
            let body = event.get(HEADER_LEN as usize..body).unwrap_or_default();
            let fits = header.event_size as usize == event.len() && ends_at(&header, size);
            fits && match header.type_code {
                EventType::ROTATE => rotate::parse(body).is_some_and(|to| to.file == next),
                EventType::STOP => body.is_empty(),
                _ => false,
            }
        };
        // With and without a checksum.
        let lengths = [0, 8 + next.as_str().len()];
        let candidates = [0, 4].map(|checksum| lengths.map(|body| (body, checksum)));
        Ok(candidates.iter().flatten().any(|&(body, checksum)| {
            let length = HEADER_LEN as usize + body + checksum;
            let event = tail.len().checked_sub(length).and_then(|at| tail.get(at..));
            event.is_some_and(|event| closes(event, checksum))
        }))
    }

    /// Whose files are there instead.
    fn of_others(&self, primary: ServerId) -> LogError {
        let mut told: Vec<String> = Vec::new();
        let newest_first = self.files.iter().rev().take(NAMES_TOLD);
        for name in newest_first {
            told.push(match self.head(name) {
                Ok(Some(head)) => format!("{name} of server_id {}", head.writer),
                Ok(None) => format!("{name}, which is no binary log"),
                Err(error) => format!("{name} ({error})"),
            });
        }
        if self.files.len() > NAMES_TOLD {
            told.push("..".to_owned());
        }
        LogError::OtherWriter {
            directory: self.directory.clone(),
            wanted: primary,
            found: told.join(", "),
        }
    }
}

#[cfg(test)]
mod tests;
