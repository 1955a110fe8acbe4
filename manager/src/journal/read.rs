//! Reads journals, a torn last line included.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{JournalError, Record, folder};

/// Longest record accepted, bytes.
const MAX_RECORD: u64 = 64 << 20;

/// What a journal holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Journaled {
    /// Whole records.
    pub records: Vec<Record>,
    /// Offset of a torn last record, if there is one.
    pub torn_at: Option<u64>,
}

/// Reads a journal.
///
/// # Errors
/// [`JournalError::Damaged`] if anything but the end is damaged; I/O.
pub fn read(path: &Path) -> Result<Journaled, JournalError> {
    let file = File::open(path).map_err(|source| JournalError::io(path, source))?;
    let mut reader = BufReader::new(file);
    let mut journaled = Journaled {
        records: Vec::new(),
        torn_at: None,
    };
    let mut offset = 0u64;
    loop {
        let mut line = Vec::new();
        let length = reader
            .by_ref()
            .take(MAX_RECORD)
            .read_until(b'\n', &mut line)
            .map_err(|source| JournalError::io(path, source))? as u64;
        if length == 0 {
            return Ok(journaled);
        }
        match decode(&line) {
            Ok(record) => journaled.records.push(record),
            Err(expected) => {
                let last = reader
                    .fill_buf()
                    .map_err(|source| JournalError::io(path, source))?
                    .is_empty();
                // A crash tears the end; a whole line with a wrong checksum is something else.
                if last && line.last() != Some(&b'\n') {
                    journaled.torn_at = Some(offset);
                    return Ok(journaled);
                }
                return Err(JournalError::Damaged {
                    path: path.to_owned(),
                    offset,
                    expected,
                });
            }
        }
        offset += length;
    }
}

fn decode(line: &[u8]) -> Result<Record, &'static str> {
    let line = line.strip_suffix(b"\n").ok_or("an end of line")?;
    let (head, json) = line.split_at_checked(18).ok_or("length and checksum")?;
    let head = std::str::from_utf8(head).map_err(|_| "length and checksum")?;
    let (length, crc) = head
        .strip_suffix(' ')
        .and_then(|h| h.split_once(' '))
        .ok_or("length and checksum")?;
    let number = |text: &str| u32::from_str_radix(text, 16).map_err(|_| "length and checksum");
    if usize::try_from(number(length)?) != Ok(json.len()) {
        return Err("as many bytes as announced");
    }
    if number(crc)? != crc32fast::hash(json) {
        return Err("the announced checksum");
    }
    serde_json::from_slice(json).map_err(|_| "a record of this format")
}

/// Journals of a cluster, oldest name first; empty if there never was one.
///
/// # Errors
/// I/O.
pub fn operations(state_dir: &Path, cluster: &str) -> Result<Vec<PathBuf>, JournalError> {
    let dir = folder(state_dir, cluster);
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(JournalError::io(&dir, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|source| JournalError::io(&dir, source))?
            .path();
        if path.extension().is_some_and(|e| e == "journal") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether the operation of a journal is still running: its manager holds the lock.
///
/// # Errors
/// I/O.
pub fn is_running(path: &Path) -> Result<bool, JournalError> {
    let file = OpenOptions::new()
        .read(true)
        .open(path)
        .map_err(|source| JournalError::io(path, source))?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_released_at_once) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(JournalError::io(path, errno.into())),
    }
}
