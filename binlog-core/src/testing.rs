//! Synthetic logs for the tests of all crates: events with right sizes, positions and checksums, built in memory.
//!
//! [`PrimaryLog`] writes a primary's binary log and remembers every event (the truth a test compares with);
//! [`RelayWriter`] writes what a replica's receiver would make of it.

use std::path::{Path, PathBuf};

use crate::checksum::ChecksumAlgorithm;
use crate::event::{
    EventHeader, EventType, FIRST_EVENT, FLAG_ARTIFICIAL, FLAG_IN_USE, FLAG_RELAY_LOG, HEADER_LEN,
    MAGIC, rotate,
};
use crate::position::{BinlogFileName, BinlogPosition, RelayFileName};

/// When the first file of a log was made, in seconds.
const FIRST_TIMESTAMP: u32 = 1_700_000_000;

/// One event: `size` and checksum follow from the rest.
#[must_use]
pub fn event(
    type_code: EventType,
    server_id: u32,
    log_pos: u32,
    flags: u16,
    body: &[u8],
    checksum: ChecksumAlgorithm,
) -> Vec<u8> {
    let header = (FIRST_TIMESTAMP, type_code, server_id, log_pos, flags);
    event_made_at(header, body, checksum)
}

/// The same with the second it was made in.
fn event_made_at(
    (timestamp, type_code, server_id, log_pos, flags): (u32, EventType, u32, u32, u16),
    body: &[u8],
    checksum: ChecksumAlgorithm,
) -> Vec<u8> {
    let size = HEADER_LEN + checksum.len() + u32::try_from(body.len()).unwrap_or(u32::MAX);
    let header = EventHeader {
        timestamp,
        type_code,
        server_id,
        event_size: size,
        log_pos,
        flags,
    };
    let mut out = header.to_bytes().to_vec();
    out.extend_from_slice(body);
    if checksum == ChecksumAlgorithm::Crc32 {
        // The in-use flag is not part of the sum.
        let plain = EventHeader {
            flags: flags
                & if type_code == EventType::FORMAT_DESCRIPTION {
                    !FLAG_IN_USE
                } else {
                    !0
                },
            ..header
        };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&plain.to_bytes());
        hasher.update(body);
        out.extend_from_slice(&hasher.finalize().to_le_bytes());
    }
    out
}

/// Body of a format description whose event has a checksum field (which [`event`] adds: pass CRC-32 there).
#[must_use]
pub fn format_description_body(
    version: &str,
    created: u32,
    checksum: ChecksumAlgorithm,
) -> Vec<u8> {
    let mut body = 4_u16.to_le_bytes().to_vec();
    let mut name = version.as_bytes().to_vec();
    name.resize(50, 0);
    body.extend_from_slice(&name);
    body.extend_from_slice(&created.to_le_bytes());
    body.push(19);
    body.extend_from_slice(&[0; 35]);
    body.push(u8::from(checksum == ChecksumAlgorithm::Crc32));
    body
}

/// Body of a statement.
#[must_use]
pub fn query_body(database: &str, text: &str) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.push(u8::try_from(database.len()).unwrap_or(u8::MAX));
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(database.as_bytes());
    body.push(0);
    body.extend_from_slice(text.as_bytes());
    body
}

/// Body of a Table_map without columns.
#[must_use]
pub fn table_map_body(database: &str, table: &str) -> Vec<u8> {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0];
    for name in [database, table] {
        body.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    body
}

/// An event as the primary wrote it.
#[derive(Debug, Clone)]
pub struct WrittenEvent {
    /// Where it starts.
    pub start: BinlogPosition,
    /// Where it ends.
    pub end: BinlogPosition,
    /// Its type.
    pub type_code: EventType,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Setting of its file.
    pub checksum: ChecksumAlgorithm,
}

/// A primary's binary log under construction.
#[derive(Debug, Clone)]
pub struct PrimaryLog {
    /// Everything written so far, in order.
    pub events: Vec<WrittenEvent>,
    server_id: u32,
    version: String,
    checksum: ChecksumAlgorithm,
    at: BinlogPosition,
    /// When the current file was made: no two are made in one second.
    timestamp: u32,
}

impl PrimaryLog {
    /// A log that starts with `file`.
    #[must_use]
    pub fn new(file: BinlogFileName, server_id: u32, checksum: ChecksumAlgorithm) -> Self {
        let at = BinlogPosition::new(file, FIRST_EVENT);
        let mut log = Self {
            events: Vec::new(),
            server_id,
            version: "5.6.24-log".to_owned(),
            checksum,
            at,
            timestamp: FIRST_TIMESTAMP - 1,
        };
        log.format(1_700_000_000);
        log
    }

    /// The same for another server version.
    #[must_use]
    pub fn with_version(
        file: BinlogFileName,
        server_id: u32,
        checksum: ChecksumAlgorithm,
        version: &str,
    ) -> Self {
        let at = BinlogPosition::new(file, FIRST_EVENT);
        let mut log = Self {
            events: Vec::new(),
            server_id,
            version: version.to_owned(),
            checksum,
            at,
            timestamp: FIRST_TIMESTAMP - 1,
        };
        log.format(1_700_000_000);
        log
    }

    /// Where the log ends.
    #[must_use]
    pub fn position(&self) -> &BinlogPosition {
        &self.at
    }

    fn format(&mut self, created: u32) {
        self.timestamp += 1;
        let body = format_description_body(&self.version, created, self.checksum);
        self.put(
            EventType::FORMAT_DESCRIPTION,
            FLAG_IN_USE,
            &body,
            ChecksumAlgorithm::Crc32,
        );
    }

    #[allow(clippy::cast_possible_truncation)]
    fn put(&mut self, type_code: EventType, flags: u16, body: &[u8], checksum: ChecksumAlgorithm) {
        let size = u64::from(HEADER_LEN + checksum.len()) + body.len() as u64;
        let start = self.at.clone();
        self.at.offset += size;
        let log_pos = self.at.offset as u32;
        let header = (self.timestamp, type_code, self.server_id, log_pos, flags);
        let bytes = event_made_at(header, body, checksum);
        self.events.push(WrittenEvent {
            start,
            end: self.at.clone(),
            type_code,
            bytes,
            checksum: self.checksum,
        });
    }

    /// Any event.
    pub fn event(&mut self, type_code: EventType, body: &[u8]) -> &mut Self {
        self.put(type_code, 0, body, self.checksum);
        self
    }

    /// A statement.
    pub fn query(&mut self, text: &str) -> &mut Self {
        self.event(EventType::QUERY, &query_body("d", text))
    }

    /// XID.
    pub fn xid(&mut self, xid: u64) -> &mut Self {
        self.event(EventType::XID, &xid.to_le_bytes())
    }

    /// BEGIN, a Table_map and `rows` row events of `row_len` bytes, XID.
    pub fn transaction(&mut self, xid: u64, rows: usize, row_len: usize) -> &mut Self {
        self.query("BEGIN");
        for _ in 0..rows {
            self.event(EventType::TABLE_MAP, &table_map_body("d", "t"));
            self.event(EventType::WRITE_ROWS, &vec![0xa5; row_len]);
        }
        self.xid(xid)
    }

    /// A MariaDB GTID event.
    pub fn mariadb_gtid(&mut self, domain_id: u32, seq_no: u64, flags: u8) -> &mut Self {
        let mut body = seq_no.to_le_bytes().to_vec();
        body.extend_from_slice(&domain_id.to_le_bytes());
        body.push(flags);
        body.extend_from_slice(&[0; 6]);
        self.event(EventType::MARIADB_GTID, &body)
    }

    /// The primary moves the end of the log without writing: to test positions beyond 4 GiB.
    pub fn jump_to(&mut self, offset: u64) -> &mut Self {
        self.at.offset = offset;
        self
    }

    /// A Rotate and the head of the next file.
    pub fn rotate(&mut self) -> &mut Self {
        self.rotate_with(self.checksum)
    }

    /// The same, where the next file has another setting.
    pub fn rotate_with(&mut self, checksum: ChecksumAlgorithm) -> &mut Self {
        let next = BinlogPosition::new(self.at.file.next(), FIRST_EVENT);
        self.event(EventType::ROTATE, &rotate::body(&next));
        self.at = next;
        self.checksum = checksum;
        self.format(0);
        self
    }

    /// A clean stop and restart: a Stop event and the head of the next file.
    pub fn stop(&mut self) -> &mut Self {
        self.event(EventType::STOP, &[]);
        self.crash()
    }

    /// A crash and restart: only the head of the next file.
    pub fn crash(&mut self) -> &mut Self {
        self.at = BinlogPosition::new(self.at.file.next(), FIRST_EVENT);
        self.format(1_700_000_100);
        self
    }

    /// Names of the files, ascending.
    #[must_use]
    pub fn files(&self) -> Vec<BinlogFileName> {
        let mut files: Vec<_> = self
            .events
            .iter()
            .map(|event| event.start.file.clone())
            .collect();
        files.dedup();
        files
    }

    /// The bytes of a file. Files that the server closed have the in-use flag cleared.
    #[must_use]
    pub fn file(&self, file: &BinlogFileName) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let closed = self.at.file != *file;
        for event in self.events.iter().filter(|event| event.start.file == *file) {
            let mut bytes = event.bytes.clone();
            if closed && event.type_code == EventType::FORMAT_DESCRIPTION {
                clear_in_use(&mut bytes);
            }
            out.extend_from_slice(&bytes);
        }
        out
    }

    /// Writes all files and an index into a directory; returns directory and base name.
    ///
    /// # Errors
    /// I/O.
    pub fn write_to(&self, dir: &Path) -> std::io::Result<PathBuf> {
        let base = dir.join(self.at.file.base());
        let mut index = String::new();
        for file in self.files() {
            std::fs::write(dir.join(file.as_str()), self.file(&file))?;
            index.push_str(&format!("./{file}\n"));
        }
        let mut index_path = base.as_os_str().to_owned();
        index_path.push(".index");
        std::fs::write(index_path, index)?;
        Ok(base)
    }
}

fn clear_in_use(event: &mut [u8]) {
    if let Some(flags) = event.get_mut(17) {
        *flags &= !1;
    }
}

/// What a receiver writes.
#[derive(Debug, Clone)]
pub struct RelayWriter {
    /// Finished and current files.
    pub files: Vec<(RelayFileName, Vec<u8>)>,
    owner: u32,
    /// Setting of the replica's own events until the primary's is known.
    checksum: ChecksumAlgorithm,
    /// The primary's format description, once received.
    format: Option<WrittenEvent>,
    next: RelayFileName,
}

impl RelayWriter {
    /// The first relay log of a replica.
    #[must_use]
    pub fn new(first: RelayFileName, owner: u32, checksum: ChecksumAlgorithm) -> Self {
        let mut writer = Self {
            files: Vec::new(),
            owner,
            checksum,
            format: None,
            next: first,
        };
        writer.open();
        writer
    }

    fn open(&mut self) {
        let name = self.next.clone();
        self.next = name.next();
        self.files.push((name, MAGIC.to_vec()));
        let body = format_description_body("5.6.24-log", 0, self.checksum);
        let log_pos = FIRST_EVENT + u64::from(HEADER_LEN + 4) + body.len() as u64;
        let flags = FLAG_RELAY_LOG | FLAG_IN_USE;
        let log_pos = u32::try_from(log_pos).unwrap_or_default();
        self.append(&event(
            EventType::FORMAT_DESCRIPTION,
            self.owner,
            log_pos,
            flags,
            &body,
            ChecksumAlgorithm::Crc32,
        ));
    }

    /// Appends bytes to the newest file.
    pub fn append(&mut self, bytes: &[u8]) {
        if let Some((_, file)) = self.files.last_mut() {
            file.extend_from_slice(bytes);
        }
    }

    /// Closes the file with the replica's own Rotate and opens the next one with the primary's format description
    /// repeated.
    pub fn rotate(&mut self) {
        let mut body = FIRST_EVENT.to_le_bytes().to_vec();
        body.extend_from_slice(self.next.as_str().as_bytes());
        let rotate = event(
            EventType::ROTATE,
            self.owner,
            0,
            FLAG_RELAY_LOG,
            &body,
            self.checksum,
        );
        self.append(&rotate);
        self.open();
        if let Some(format) = self.format.clone() {
            self.append(&changed_format(&format.bytes, FLAG_ARTIFICIAL, None));
        }
    }

    /// A connection: a new file with the artificial Rotate to `at` and the primary's format description, which has
    /// log_pos 0 and no `created` where `at` is beyond 4. (At 4 it is received as an event of the stream.)
    pub fn connect(&mut self, log: &PrimaryLog, at: &BinlogPosition) {
        self.format = None;
        self.rotate();
        let rotate = event(
            EventType::ROTATE,
            log.server_id,
            0,
            FLAG_ARTIFICIAL,
            &rotate::body(at),
            self.checksum,
        );
        self.append(&rotate);
        if at.offset > FIRST_EVENT
            && let Some(format) = log
                .events
                .iter()
                .find(|e| e.start.file == at.file && e.type_code == EventType::FORMAT_DESCRIPTION)
        {
            self.append(&changed_format(&format.bytes, 0, Some(0)));
            self.format = Some(format.clone());
            self.checksum = format.checksum;
        }
    }

    /// Receives one event of the primary; the first of a file after a Rotate (or where the source moved on by itself) in a
    /// new relay log behind an artificial Rotate.
    pub fn receive(&mut self, log: &PrimaryLog, event: &WrittenEvent) {
        match event.type_code {
            // The receiver does not store these.
            EventType::STOP | EventType::PREVIOUS_GTIDS => return,
            EventType::FORMAT_DESCRIPTION => {
                if self
                    .format
                    .as_ref()
                    .is_some_and(|format| format.start.file != event.start.file)
                {
                    self.connect(log, &event.start);
                }
                self.format = Some(event.clone());
                self.checksum = event.checksum;
                let mut bytes = event.bytes.clone();
                clear_in_use(&mut bytes);
                self.append(&bytes);
                return;
            }
            EventType::ROTATE => self.rotate(),
            _ => {}
        }
        self.append(&event.bytes);
    }

    /// Writes all files into a directory.
    ///
    /// # Errors
    /// I/O.
    pub fn write_to(&self, dir: &Path) -> std::io::Result<Vec<(RelayFileName, PathBuf)>> {
        let mut out = Vec::new();
        for (name, bytes) in &self.files {
            let path = dir.join(name.as_str());
            std::fs::write(&path, bytes)?;
            out.push((name.clone(), path));
        }
        Ok(out)
    }
}

/// A format description with other flags and, if asked for, another log_pos and no `created`.
fn changed_format(raw: &[u8], flags: u16, log_pos: Option<u32>) -> Vec<u8> {
    let (Some(header), Some(body)) = (
        EventHeader::parse(raw),
        raw.get(HEADER_LEN as usize..raw.len().saturating_sub(4)),
    ) else {
        return raw.to_vec();
    };
    let mut body = body.to_vec();
    if log_pos.is_some() {
        body.iter_mut().skip(52).take(4).for_each(|byte| *byte = 0);
    }
    let header = (
        header.timestamp,
        EventType::FORMAT_DESCRIPTION,
        header.server_id,
        log_pos.unwrap_or(header.log_pos),
        flags,
    );
    event_made_at(header, &body, ChecksumAlgorithm::Crc32)
}
