//! One byte string as the input of a target, and how it is changed without losing its shape.
//!
//! Bytes: target, mode, bytes to cut off, number of the first file; then the files. A file of a log starts with the magic
//! number of a binary log, a manifest with [`JSON_MARK`]; so wherever a fuzzer inserts or removes bytes, the rest keeps its
//! meaning. Nearly every change of a log is found by its checksums, which would leave what lies behind them untested:
//! [`REPAIR`] gives each event its right length and checksum, [`REPAIR_POSITIONS`] its place in the stream as well.

use binlog_core::checksum::ChecksumAlgorithm;
use binlog_core::event::{
    FLAG_ARTIFICIAL, FLAG_RELAY_LOG, FormatDescription, HEADER_LEN, MAGIC, rotate,
};
use binlog_core::testing::{event, format_description_body, query_body, table_map_body};
use binlog_core::{BinlogPosition, EventHeader, EventType};

/// Lengths and checksums are put right.
pub const REPAIR: u8 = 0x01;
/// So are positions.
pub const REPAIR_POSITIONS: u8 = 0x02;
/// Whatever else a target can be told: an index, a read position.
pub const EXTRA: u8 = 0x04;
/// The first file is cut off, not the last one.
pub const CUT_FIRST: u8 = 0x08;
/// First bytes of a manifest.
pub const JSON_MARK: [u8; 4] = [0xfe, b'j', b's', b'n'];
/// Bytes before the files.
pub const PARAMETERS: usize = 4;
/// Most files of an input.
const FILES_MAX: usize = 4;
const HEADER: usize = HEADER_LEN as usize;

/// A decoded input.
#[derive(Debug)]
pub struct Input<'a> {
    /// Picks the target.
    pub target: u8,
    /// Flags.
    pub mode: u8,
    /// Bytes to cut off a file; picks one of several questions.
    pub cut: u8,
    /// Number of the first file.
    pub number: u8,
    /// The rest.
    pub payload: &'a [u8],
}

impl<'a> Input<'a> {
    /// Every byte string of some length is an input.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let (&[target, mode, cut, number], payload) = data.split_first_chunk::<PARAMETERS>()?;
        Some(Self {
            target,
            mode,
            cut,
            number,
            payload,
        })
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.target, self.mode, self.cut, self.number];
        out.extend_from_slice(self.payload);
        out
    }

    /// A flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.mode & flag != 0
    }

    /// The files of a log, at most `max`, put right as far as the mode says. `relay`: positions are those of the primary.
    pub fn logs(&self, max: usize, relay: bool) -> Vec<Vec<u8>> {
        let mut stream = None;
        let mut files: Vec<Vec<u8>> = split(self.payload)
            .into_iter()
            .take(max)
            .map(|file| {
                if self.has(REPAIR) && file.starts_with(&MAGIC) {
                    let positions = self.has(REPAIR_POSITIONS);
                    repair(file, positions, relay.then_some(&mut stream))
                } else {
                    file.to_vec()
                }
            })
            .collect();
        let cut = if self.has(CUT_FIRST) {
            files.first_mut()
        } else {
            files.last_mut()
        };
        if let Some(file) = cut {
            let len = file.len().saturating_sub(usize::from(self.cut));
            file.truncate(len);
        }
        files
    }
}

/// The files of a payload, each with its mark.
pub fn split(payload: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    let mut start = 0;
    for at in 1..payload.len() {
        let rest = &payload[at..];
        if (rest.starts_with(&MAGIC) || rest.starts_with(&JSON_MARK)) && files.len() + 1 < FILES_MAX
        {
            files.push(&payload[start..at]);
            start = at;
        }
    }
    files.push(&payload[start..]);
    files
}

/// The events of a file by their lengths; what has no right length is one event.
pub fn events(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file.get(MAGIC.len()..).unwrap_or_default();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let len = EventHeader::parse(rest)
            .map(|header| header.event_size as usize)
            .filter(|len| (HEADER..=rest.len()).contains(len))
            .unwrap_or(rest.len());
        let (event, behind) = rest.split_at(len);
        events.push(event.to_vec());
        rest = behind;
    }
    events
}

/// Right lengths, checksums and, if asked for, positions. `stream` is where the primary's stream is, for relay logs; in a
/// binary log an event stands where it stands.
fn repair(file: &[u8], positions: bool, mut stream: Option<&mut Option<u32>>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let mut checksum = ChecksumAlgorithm::None;
    for mut event in events(file) {
        if let Some(header) = EventHeader::parse(&event) {
            let size = u32::try_from(event.len()).unwrap();
            put(&mut event, 9, size);
            if positions {
                match &mut stream {
                    None => {
                        let end = u32::try_from(out.len() + event.len()).unwrap();
                        put(&mut event, 13, end);
                    }
                    Some(at) => place_in_stream(&mut event, &header, at),
                }
            }
            let description = FormatDescription::parse(&event)
                .filter(|_| header.type_code == EventType::FORMAT_DESCRIPTION);
            if let Some(description) = &description {
                checksum = description.checksum;
            }
            let summed = description.as_ref().map_or(
                header.type_code != EventType::FORMAT_DESCRIPTION
                    && checksum == ChecksumAlgorithm::Crc32,
                |d| d.has_checksum_field,
            );
            if summed {
                sum(&mut event, description.is_some());
            }
        }
        out.extend_from_slice(&event);
    }
    out
}

/// Continues the primary's stream where the event takes a place in it.
fn place_in_stream(event: &mut [u8], header: &EventHeader, at: &mut Option<u32>) {
    if header.flags & FLAG_RELAY_LOG != 0 {
        return;
    }
    let artificial = header.log_pos == 0 || header.flags & FLAG_ARTIFICIAL != 0;
    let size = u32::try_from(event.len()).unwrap();
    if artificial {
        if header.type_code == EventType::ROTATE {
            // With or without a checksum: a name ends in a digit.
            let body = &event[HEADER..];
            let to = rotate::parse(body)
                .or_else(|| rotate::parse(&body[..body.len().saturating_sub(4)]));
            *at = to.map(|to| to.offset as u32);
        }
        return;
    }
    let end = match *at {
        Some(at) => at.wrapping_add(size),
        None => header.log_pos,
    };
    put(event, 13, end);
    *at = match header.type_code {
        EventType::ROTATE => Some(4),
        _ => Some(end),
    };
}

fn put(event: &mut [u8], offset: usize, value: u32) {
    if let Some(field) = event.get_mut(offset..offset + 4) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}

fn sum(event: &mut [u8], without_in_use: bool) {
    if event.len() < HEADER + 4 {
        return;
    }
    let mut content = event[..event.len() - 4].to_vec();
    if without_in_use {
        content[17] &= !1;
    }
    let place = event.len() - 4;
    put(event, place, binlog_core::checksum::crc32(&content));
}

/// Numbers that repeat for the same seed (xorshift).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A seed may be anything.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let limit = u64::try_from(limit.max(1)).unwrap();
        usize::try_from((self.0 >> 11) % limit).unwrap()
    }
}

/// Numbers at which something may change.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    4,
    18,
    19,
    22,
    23,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_fff0,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Changes some bytes without knowing what they are.
pub fn havoc(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        match rng.below(6) {
            _ if bytes.is_empty() => bytes.push(0),
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = u8::try_from(rng.below(256)).unwrap(),
            2 => {
                bytes.remove(at);
            }
            3 => bytes.insert(at, u8::try_from(rng.below(256)).unwrap()),
            4 => bytes.truncate(at + 1),
            _ => {
                let edge = EDGES[rng.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][rng.below(4)];
                for (target, byte) in bytes[at..].iter_mut().zip(&edge[..width]) {
                    *target = *byte;
                }
            }
        }
    }
}

/// Changes an input event by event; `bytes` changes the bytes of one event or text.
pub fn mutate(data: &[u8], rng: &mut Rng, bytes: &mut dyn FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let Some(input) = Input::decode(data) else {
        return data.to_vec();
    };
    let mut parameters = [input.target, input.mode, input.cut, input.number];
    let mut files: Vec<Vec<u8>> = split(input.payload)
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    match rng.below(10) {
        0 => {
            let at = 1 + rng.below(3);
            parameters[at] = match at {
                1 => parameters[1] ^ (1 << rng.below(5)),
                _ => u8::try_from(EDGES[rng.below(10)]).unwrap(),
            };
        }
        1 if files.len() > 1 => {
            let (a, b) = (rng.below(files.len()), rng.below(files.len()));
            files.swap(a, b);
        }
        2 => {
            let copy = files[rng.below(files.len())].clone();
            let at = rng.below(files.len() + 1);
            files.insert(at, copy);
        }
        _ => {
            let at = rng.below(files.len());
            let file = &mut files[at];
            if file.starts_with(&MAGIC) {
                *file = mutate_events(file, rng, bytes);
            } else if file.starts_with(&JSON_MARK) {
                mutate_text(file, rng, bytes);
            } else {
                bytes(file);
            }
        }
    }
    let mut out = parameters.to_vec();
    out.extend(files.into_iter().flatten());
    out
}

fn mutate_events(file: &[u8], rng: &mut Rng, bytes: &mut dyn FnMut(&mut Vec<u8>)) -> Vec<u8> {
    let mut all = events(file);
    let (a, b) = (rng.below(all.len()), rng.below(all.len()));
    match rng.below(9) {
        _ if all.is_empty() => all.push(made_up(rng)),
        0 => {
            all.remove(a);
        }
        1 => all.swap(a, b),
        2 => all.insert(b, all[a].clone()),
        3 => all.insert(a, made_up(rng)),
        4 => all.truncate(a + 1),
        5 => {
            // A new file begins here.
            let event = std::mem::take(&mut all[a]);
            all[a] = [&MAGIC[..], &event[..]].concat();
        }
        6 => {
            // A field of the header: type, server id, log_pos, flags, or the time.
            let (offset, width) = [(4, 1), (5, 4), (13, 4), (17, 2), (0, 4)][rng.below(5)];
            let edge = match offset {
                4 => rng.below(0xb0) as u64,
                17 => [0, 1, 0x20, 0x40, 0x60, 0x80][rng.below(6)],
                _ => EDGES[rng.below(EDGES.len())],
            };
            for (target, byte) in all[a]
                .iter_mut()
                .skip(offset)
                .zip(&edge.to_le_bytes()[..width])
            {
                *target = *byte;
            }
        }
        _ => {
            let head = HEADER.min(all[a].len());
            let mut body = all[a].split_off(head);
            bytes(&mut body);
            all[a].append(&mut body);
        }
    }
    let mut out = MAGIC.to_vec();
    for mut event in all {
        // The length is right, so that the next event is found where it begins.
        if event.len() >= HEADER && !event.starts_with(&MAGIC) {
            let len = u32::try_from(event.len()).unwrap();
            put(&mut event, 9, len);
        }
        out.extend_from_slice(&event);
    }
    out
}

/// Another number in a text, or other bytes.
fn mutate_text(text: &mut Vec<u8>, rng: &mut Rng, bytes: &mut dyn FnMut(&mut Vec<u8>)) {
    let starts: Vec<usize> = (1..text.len())
        .filter(|&i| text[i].is_ascii_digit() && !text[i - 1].is_ascii_digit())
        .collect();
    if starts.is_empty() || rng.below(4) == 0 {
        let mut rest = text.split_off(JSON_MARK.len().min(text.len()));
        bytes(&mut rest);
        text.append(&mut rest);
        return;
    }
    let start = starts[rng.below(starts.len())];
    let len = text[start..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let number = match rng.below(3) {
        0 => EDGES[rng.below(EDGES.len())].to_string(),
        1 => rng.below(400).to_string(),
        _ => {
            let other = starts[rng.below(starts.len())];
            let digits = text[other..].iter().take_while(|b| b.is_ascii_digit());
            String::from_utf8(digits.copied().collect()).unwrap()
        }
    };
    text.splice(start..start + len, number.into_bytes());
}

/// An event of any kind that a log may hold.
fn made_up(rng: &mut Rng) -> Vec<u8> {
    let number = |rng: &mut Rng| EDGES[rng.below(EDGES.len())];
    let text = [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "drop table t",
        "XA START X'31',X'',1",
        "XA COMMIT X'31',X'',1",
        "SAVEPOINT `a`",
        "# Dum",
    ];
    let mut long = number(rng).to_le_bytes().to_vec();
    let (type_code, body) = match rng.below(20) {
        0 => (
            EventType::QUERY,
            query_body("d", text[rng.below(text.len())]),
        ),
        1 => (EventType::XID, long),
        2 => {
            long.splice(0..0, [0x11; 17]);
            (EventType::GTID, long)
        }
        3 => (EventType::ANONYMOUS_GTID, vec![0; 25]),
        4 => {
            long.extend_from_slice(&[1, 0, 0, 0, [0, 1, 4, 0x80][rng.below(4)], 0, 0, 0, 0, 0, 0]);
            (EventType::MARIADB_GTID, long)
        }
        5 | 6 => {
            let file = format!("mysql-bin.{:06}", rng.below(4));
            let offset = [4, 4, 120, 256, number(rng)][rng.below(5)];
            let to = BinlogPosition::new(file.parse().unwrap(), offset);
            (EventType::ROTATE, rotate::body(&to))
        }
        7 => (EventType::STOP, vec![]),
        8 => (EventType::TABLE_MAP, table_map_body("d", "t")),
        9 => (EventType::WRITE_ROWS, vec![1; 20]),
        10 => (EventType::INTVAR, vec![2; 9]),
        11 => (EventType::TRANSACTION_PAYLOAD, vec![2, 1, 0, 1, 1, 5, 0]),
        12 => (EventType::XA_PREPARE, vec![0; 14]),
        13 => (EventType::MARIADB_ANNOTATE_ROWS, b"insert into t".to_vec()),
        14 => (
            EventType::MARIADB_BINLOG_CHECKPOINT,
            b"\x10\0\0\0mysql-bin.000001".to_vec(),
        ),
        15 => (EventType::MARIADB_GTID_LIST, vec![0; 6]),
        16 => (EventType::PREVIOUS_GTIDS, vec![0; 8]),
        17 => (EventType::GTID_TAGGED, vec![2, 0x76, 0, 0, 2]),
        _ => {
            let checksum = [ChecksumAlgorithm::None, ChecksumAlgorithm::Crc32][rng.below(2)];
            let version = ["5.6.24-log", "10.11.19-MariaDB-log", "9.7.1", "5.5.5"][rng.below(4)];
            let created = [0, 1_700_000_000][rng.below(2)];
            let body = format_description_body(version, created, checksum);
            (EventType::FORMAT_DESCRIPTION, body)
        }
    };
    let server_id = [1, 1, 1, 2, 0][rng.below(5)];
    let flags = [0, 0, 0, FLAG_ARTIFICIAL, FLAG_RELAY_LOG][rng.below(5)];
    let log_pos = [1, 1, 0][rng.below(3)];
    event(
        type_code,
        server_id,
        log_pos,
        flags,
        &body,
        ChecksumAlgorithm::Crc32,
    )
}
