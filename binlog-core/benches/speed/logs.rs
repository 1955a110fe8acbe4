//! Logs of a given size, the same bytes each time: a primary's binary log, and what a receiver makes of it.
//!
//! A transaction is a GTID, a BEGIN, Table_map and Write_rows, and an XID, each with a CRC-32, in the sizes that MySQL 8 writes;
//! only the length of the row event differs between the mixes.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::{Path, PathBuf};

use binlog_core::checksum::ChecksumAlgorithm;
use binlog_core::event::{
    EventHeader, FIRST_EVENT, FLAG_ARTIFICIAL, FLAG_IN_USE, FLAG_RELAY_LOG, HEADER_LEN, MAGIC,
    rotate,
};
use binlog_core::testing::{event, format_description_body, query_body, table_map_body};
use binlog_core::{BinlogFileName, BinlogPosition, EventType, RelayFileName};

/// The primary's server id, and the replica's.
const PRIMARY: u32 = 1;
/// The replica's server id.
pub const REPLICA: u32 = 2;
const CRC: ChecksumAlgorithm = ChecksumAlgorithm::Crc32;
const VERSION: &str = "8.0.36";

/// Sizes of the events of a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// For the table.
    pub name: &'static str,
    /// Bytes of a Write_rows event without header and checksum.
    pub row: usize,
}

/// 79 + 80 + 60 + 250 + 31 = 500 bytes in five events.
pub const SMALL: Mix = Mix {
    name: "100-byte events",
    row: 227,
};
/// Row events as the server fills them by default (`binlog_row_event_max_size`).
pub const ROWS: Mix = Mix {
    name: "8 KiB row events",
    row: 8192,
};

/// Yields the events of a log that ends at or just behind `size`.
struct Events {
    at: u64,
    gtid: Vec<u8>,
    begin: Vec<u8>,
    map: Vec<u8>,
    row: Vec<u8>,
    number: u64,
    step: usize,
}

impl Events {
    fn new(mix: Mix) -> Self {
        let mut begin = query_body("d", "BEGIN");
        // Status variables, as a current server has them.
        let fill = 57 - begin.len();
        begin.splice(13..13, std::iter::repeat_n(0, fill));
        if let Some(len) = begin.get_mut(11) {
            *len = u8::try_from(fill).unwrap_or_default();
        }
        let mut map = table_map_body("d", "t");
        map.resize(37, 1);
        Self {
            at: FIRST_EVENT,
            gtid: vec![0x11; 56],
            begin,
            map,
            row: (0..mix.row).map(|i| (i * 7) as u8).collect(),
            number: 0,
            step: 0,
        }
    }

    fn make(&mut self, type_code: EventType, flags: u16, body: &[u8]) -> Vec<u8> {
        self.at += u64::from(HEADER_LEN + CRC.len()) + body.len() as u64;
        event(type_code, PRIMARY, self.at as u32, flags, body, CRC)
    }

    fn format(&mut self) -> Vec<u8> {
        let body = format_description_body(VERSION, 1_700_000_000, CRC);
        self.make(EventType::FORMAT_DESCRIPTION, FLAG_IN_USE, &body)
    }

    fn next(&mut self) -> Vec<u8> {
        let step = self.step;
        self.step = (step + 1) % 5;
        match step {
            0 => {
                self.number += 1;
                let mut body = std::mem::take(&mut self.gtid);
                if let Some(number) = body.get_mut(17..25) {
                    number.copy_from_slice(&self.number.to_le_bytes());
                }
                let made = self.make(EventType::GTID, 0, &body);
                self.gtid = body;
                made
            }
            1 => self.with(EventType::QUERY, |events| &mut events.begin),
            2 => self.with(EventType::TABLE_MAP, |events| &mut events.map),
            3 => {
                let number = self.number.to_le_bytes();
                if let Some(head) = self.row.get_mut(10..18) {
                    head.copy_from_slice(&number);
                }
                self.with(EventType::WRITE_ROWS, |events| &mut events.row)
            }
            _ => {
                let number = self.number.to_le_bytes();
                self.make(EventType::XID, 0, &number)
            }
        }
    }

    fn with(&mut self, type_code: EventType, body: fn(&mut Self) -> &mut Vec<u8>) -> Vec<u8> {
        let taken = std::mem::take(body(self));
        let made = self.make(type_code, 0, &taken);
        *body(self) = taken;
        made
    }
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Primary {
    /// Directory and base name.
    pub base: PathBuf,
    /// The only file.
    pub path: PathBuf,
    /// Its name.
    pub file: BinlogFileName,
    /// Its size: it ends with a whole transaction.
    pub size: u64,
    /// Transactions in it.
    pub transactions: u64,
}

/// One file of a primary, of `size` bytes or a little more.
pub fn primary(dir: &Path, mix: Mix, size: u64) -> Result<Primary> {
    let file = name("mysql-bin.000001")?;
    let path = dir.join(file.as_str());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    let mut events = Events::new(mix);
    out.write_all(&MAGIC)?;
    out.write_all(&events.format())?;
    while events.at < size || events.step != 0 {
        out.write_all(&events.next())?;
    }
    out.into_inner()?.sync_all()?;
    Ok(Primary {
        base: dir.join(file.base()),
        path,
        file,
        size: events.at,
        transactions: events.number,
    })
}

/// What a receiver made of a primary's file.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Oldest first.
    pub files: Vec<(RelayFileName, PathBuf)>,
    /// The primary's file.
    pub file: BinlogFileName,
    /// Every 1000th or so event: where it starts and ends, and where its end is in the relay logs.
    pub samples: Vec<Sample>,
}

/// An event that was written.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Start in the primary's file.
    pub start: u64,
    /// End in the primary's file.
    pub end: u64,
    /// Which relay log, and where it ends in it.
    pub relay: (usize, u64),
}

/// One primary file received from its start into relay logs of `each` bytes, `total` in all.
pub fn relay(dir: &Path, mix: Mix, total: u64, each: u64) -> Result<Relay> {
    let file = name("mysql-bin.000001")?;
    let mut events = Events::new(mix);
    let mut files = Vec::new();
    let mut samples = Vec::new();
    let mut format: Option<Vec<u8>> = None;
    let mut relay_name: RelayFileName = parse("relay-bin.000001")?;
    let mut count = 0_u64;
    while events.at < total {
        let path = dir.join(relay_name.as_str());
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            at += bytes.len() as u64;
            out.write_all(bytes).map(|()| at)
        };
        put(&MAGIC)?;
        let own = format_description_body(VERSION, 0, CRC);
        let own_flags = FLAG_RELAY_LOG | FLAG_IN_USE;
        put(&event(
            EventType::FORMAT_DESCRIPTION,
            REPLICA,
            0,
            own_flags,
            &own,
            CRC,
        ))?;
        match &format {
            None => {
                let to = rotate::body(&BinlogPosition::new(file.clone(), FIRST_EVENT));
                put(&event(
                    EventType::ROTATE,
                    PRIMARY,
                    0,
                    FLAG_ARTIFICIAL,
                    &to,
                    CRC,
                ))?;
                let body = format_description_body(VERSION, 1_700_000_000, CRC);
                put(&events.make(EventType::FORMAT_DESCRIPTION, 0, &body))?;
                format = Some(body);
            }
            // A new relay log repeats it.
            Some(body) => {
                let kind = EventType::FORMAT_DESCRIPTION;
                put(&event(kind, PRIMARY, 0, FLAG_ARTIFICIAL, body, CRC))?;
            }
        }
        loop {
            let start = events.at;
            let end = put(&events.next())?;
            count += 1;
            if count.is_multiple_of(997) || events.at >= total {
                samples.push(Sample {
                    start,
                    end: events.at,
                    relay: (files.len(), end),
                });
            }
            if end >= each || events.at >= total {
                break;
            }
        }
        let next = relay_name.next();
        if events.at < total {
            let mut to = FIRST_EVENT.to_le_bytes().to_vec();
            to.extend_from_slice(next.as_str().as_bytes());
            put(&event(
                EventType::ROTATE,
                REPLICA,
                0,
                FLAG_RELAY_LOG,
                &to,
                CRC,
            ))?;
        }
        out.into_inner()?.sync_all()?;
        files.push((relay_name, path));
        relay_name = next;
    }
    Ok(Relay {
        files,
        file,
        samples,
    })
}

fn name(text: &str) -> Result<BinlogFileName> {
    parse(text)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| std::io::Error::other(format!("{text} is no file name")))
}

/// Average length of the events of a mix, header and checksum included.
pub fn average(mix: Mix) -> u64 {
    let mut events = Events::new(mix);
    let all: u64 = (0..5).map(|_| events.next().len() as u64).sum();
    debug_assert!(EventHeader::parse(&events.next()).is_some());
    all / 5
}
