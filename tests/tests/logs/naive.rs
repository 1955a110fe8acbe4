//! Event headers, read without any of the code under test: the truth of these tests.
//!
//! Nothing is clever here. A file is a list of events, an event is its bytes, and what a relay log holds of the primary's
//! log is found by comparing bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const STOP: u8 = 3;
pub(crate) const ROTATE: u8 = 4;
pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
const HEARTBEATS: [u8; 2] = [27, 41];
/// Stop, Rotate, format description, Previous_gtids, and MariaDB's Binlog_checkpoint, Gtid_list, Start_encryption: they
/// change no row, and no relay log holds them as events of the primary's stream, the Rotate apart.
const NO_DATA: [u8; 7] = [STOP, ROTATE, FORMAT_DESCRIPTION, 35, 161, 163, 164];

/// Events that a MariaDB receiver unpacks before it stores them: statements and rows. What it stores is not the primary's
/// event any more.
const UNPACKED: [u8; 4] = [2, 23, 24, 25];

/// One event of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Event {
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[4]
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn server_id(&self) -> u32 {
        self.number(5)
    }

    pub(crate) fn log_pos(&self) -> u32 {
        self.number(13)
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_le_bytes(self.bytes[17..19].try_into().unwrap())
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    pub(crate) fn is_data(&self) -> bool {
        !NO_DATA.contains(&self.kind())
    }

    /// Number of the file and offset that a Rotate names; all primaries here call their log `mysql-bin`.
    pub(crate) fn rotate_to(&self) -> Place {
        let offset = u64::from_le_bytes(self.bytes[19..27].try_into().unwrap());
        let name = std::str::from_utf8(&self.bytes[27..43]).unwrap();
        let number = name.strip_prefix("mysql-bin.").unwrap();
        Place::new(number.parse().unwrap(), offset)
    }
}

/// The whole events of a file; what is cut off at its end is none.
pub(crate) fn events(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let mut events = Vec::new();
    if bytes.is_empty() {
        return events;
    }
    assert_eq!(bytes[..4], *b"\xfebin", "{}", path.display());
    let mut at = 4;
    while at + 19 <= bytes.len() {
        let size = u32::from_le_bytes(bytes[at + 9..at + 13].try_into().unwrap()) as usize;
        let Some(event) = bytes.get(at..at + size) else {
            break;
        };
        events.push(Event {
            offset: at as u64,
            bytes: event.to_vec(),
        });
        at += size;
    }
    events
}

/// A place in the primary's log: number of the file, offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: u64,
    pub(crate) offset: u64,
}

impl Place {
    pub(crate) fn new(file: u64, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mysql-bin.{:06}:{}", self.file, self.offset)
    }
}

/// The number at the end of a log file's name; `None` for an index or another file.
pub(crate) fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.rsplit_once('.')?.1.parse().ok()
}

/// The log files `BASE.NNNNNN` of a folder, oldest first.
pub(crate) fn log_files(folder: &Path, base: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&format!("{base}.")) && number_of(path).is_some()
        })
        .collect();
    files.sort();
    files
}

/// The primary's log: every event by the place where it starts.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) events: BTreeMap<Place, Event>,
}

impl Truth {
    pub(crate) fn read(folder: &Path) -> Self {
        let mut all = BTreeMap::new();
        for path in log_files(folder, "mysql-bin") {
            let number = number_of(&path).unwrap();
            for event in events(&path) {
                assert_eq!(
                    u64::from(event.log_pos()),
                    event.end(),
                    "{}:{}",
                    path.display(),
                    event.offset
                );
                all.insert(Place::new(number, event.offset), event);
            }
        }
        Self { events: all }
    }

    pub(crate) fn end_of(&self, start: Place) -> Place {
        Place::new(start.file, self.events[&start].end())
    }

    /// Where data events start, ascending, from a place on.
    pub(crate) fn data_from(&self, from: Place) -> impl Iterator<Item = Place> {
        self.events
            .range(from..)
            .filter(|(_, event)| event.is_data())
            .map(|(start, _)| *start)
    }

    /// The last data event that ends at or before a place.
    pub(crate) fn data_before(&self, place: Place) -> Option<Place> {
        let mut before = self.events.range(..place).rev();
        before
            .find(|(_, event)| event.is_data())
            .map(|(start, _)| *start)
    }

    pub(crate) fn format_description(&self, file: u64) -> &Event {
        &self.events[&Place::new(file, 4)]
    }
}

/// An event of the primary in a relay log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stored {
    /// Number of the relay log.
    pub(crate) relay: u64,
    /// Offset in it.
    pub(crate) at: u64,
    /// Where the event starts in the primary's log.
    pub(crate) start: Place,
}

/// The primary's own events in relay logs, byte for byte, in the order of the relay logs; format descriptions left out.
pub(crate) fn stored(truth: &Truth, relay_logs: &[PathBuf], owner: u32) -> Vec<Stored> {
    let mut stored = Vec::new();
    let mut file = None;
    for path in relay_logs {
        let relay = number_of(path).unwrap();
        for event in events(path) {
            let own = event.offset == 4 || event.flags() & 0x40 != 0 || event.server_id() == owner;
            if own || event.kind() == FORMAT_DESCRIPTION || HEARTBEATS.contains(&event.kind()) {
                continue;
            }
            let end = u64::from(event.log_pos());
            let size = event.bytes.len() as u64;
            let start = file.zip(end.checked_sub(size));
            let start = start.map(|(file, offset)| Place::new(file, offset));
            let same = |start: &Place| truth.events.get(start) == Some(&moved(&event, start));
            if let Some(start) = start.filter(same) {
                stored.push(Stored {
                    relay,
                    at: event.offset,
                    start,
                });
            } else {
                // A Rotate that restates a position, a Gtid_list made up by the source or by the receiver, or unpacked.
                assert!(
                    file.is_none() || !event.is_data() || UNPACKED.contains(&event.kind()),
                    "{}:{} holds no event of the primary: kind {}, log_pos {end}",
                    path.display(),
                    event.offset,
                    event.kind()
                );
                if event.is_data() {
                    // Where the next event is in the stream is unknown until a Rotate says so.
                    file = None;
                }
            }
            if event.kind() == ROTATE {
                file = Some(event.rotate_to().file);
            }
        }
    }
    stored
}

fn moved(event: &Event, start: &Place) -> Event {
    Event {
        offset: start.offset,
        bytes: event.bytes.clone(),
    }
}

/// CRC-32 as in zlib, bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
        }
    }
    !crc
}
