//! What is in a log file of any kind: its events, transactions, extents in the primary's coordinates, checksums, and how
//! it ends.
//!
//! One walk, constant memory. A damaged file is inspected up to the damage; a file that cannot be read at all is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::checksum::ChecksumAlgorithm;
use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::{EventHeader, EventType, FormatDescription};
use crate::extent::TransactionRef;
use crate::follow::{FileKind, Follower};
use crate::map::Piece;
use crate::position::{BinlogFileName, BinlogPosition, StreamRange};
use crate::reader::{EventReader, Step};
use crate::segment::{Manifest, verify_digest};

/// What is in a file.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The file.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Its format descriptions, in order.
    pub formats: Vec<FormatSeen>,
    /// Number of events.
    pub events: u64,
    /// The same by type, by type code.
    pub types: Vec<TypeCount>,
    /// Transactions of the primary.
    pub transactions: Transactions,
    /// The file says, or its own name does, in which of the primary's files it begins; otherwise that is called
    /// `unknown.000000`.
    pub primary_file_known: bool,
    /// Contiguous ranges of the primary's stream, ascending as they stand in the file.
    pub extents: Vec<StreamRange>,
    /// What is missing between them.
    pub holes: Vec<StreamRange>,
    /// Events whose checksum was verified.
    pub checksums_verified: u64,
    /// Events without one.
    pub without_checksum: u64,
    /// How the file ends.
    pub end: LogEnd,
    /// The manifest beside it, if there is one.
    pub manifest: Option<ManifestSeen>,
}

/// A format description.
#[derive(Debug, Clone, Serialize)]
pub struct FormatSeen {
    /// Where it is in the file.
    pub offset: u64,
    /// Who wrote it.
    pub server_id: u32,
    /// Version of that server.
    pub server_version: String,
    /// How the events that follow are protected: `NONE` or `CRC32`.
    pub checksum: &'static str,
}

/// Events of one type.
#[derive(Debug, Clone, Serialize)]
pub struct TypeCount {
    /// The server's symbol.
    pub name: String,
    /// Type code.
    pub type_code: u8,
    /// How many.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Transactions of a file.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Transactions {
    /// How many end in it.
    pub count: u64,
    /// The first of them.
    pub first: Option<TransactionRef>,
    /// The last of them.
    pub last: Option<TransactionRef>,
    /// Start of the one that is open at the end.
    pub open_since: Option<BinlogPosition>,
}

/// The manifest of a segment.
#[derive(Debug, Clone, Serialize)]
pub struct ManifestSeen {
    /// What the segment holds; `None` where the manifest cannot be read.
    pub range: Option<StreamRange>,
    /// Who cut it.
    pub provider: String,
    /// Bytes of the provider's log that were left out.
    pub dropped_bytes: u64,
    /// Why the file is not what the manifest says; `None` if it is.
    pub mismatch: Option<String>,
}

/// One event, as listed.
#[derive(Debug, Clone, Serialize)]
pub struct EventLine {
    /// Where it is in the file.
    pub offset: u64,
    /// The server's symbol.
    #[serde(rename = "type")]
    pub name: String,
    /// Who made it.
    pub server_id: u32,
    /// Its end in the primary's file, modulo 2^32.
    pub log_pos: u32,
    /// Size in bytes.
    pub size: u32,
    /// Flags of the header.
    pub flags: u16,
    /// Seconds since 1970.
    pub timestamp: u32,
}

impl EventLine {
    fn new(offset: u64, header: &EventHeader) -> Self {
        Self {
            offset,
            name: header.type_code.to_string(),
            server_id: header.server_id,
            log_pos: header.log_pos,
            size: header.event_size,
            flags: header.flags,
            timestamp: header.timestamp,
        }
    }
}

impl Inspection {
    /// The file is damaged, or not what its manifest says.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(self.end, LogEnd::Corrupt { .. })
            || self
                .manifest
                .as_ref()
                .is_some_and(|seen| seen.mismatch.is_some())
    }
}

/// Walks a file; every event is handed to `list` as well, where there is one. `first_file` names the primary's file in
/// which it begins, where neither the file nor its own name does.
///
/// # Errors
/// A file that cannot be read, is no binary log, or is encrypted.
pub fn inspect(
    path: &Path,
    first_file: Option<&BinlogFileName>,
    list: Option<&mut dyn FnMut(&EventLine)>,
) -> Result<Inspection, LogError> {
    walk(path, first_file, list, &mut |_| {})
}

/// The transactions of a segment in order, the first `limit` of them, and how many there are.
///
/// # Errors
/// As [`inspect`].
pub fn transactions(path: &Path, limit: usize) -> Result<(Vec<TransactionRef>, u64), LogError> {
    let mut listed = Vec::new();
    let inspection = walk(path, None, None, &mut |piece| {
        if listed.len() < limit {
            listed.extend(piece.last_whole());
        }
    })?;
    Ok((listed, inspection.transactions.count))
}

/// `whole` hears of each transaction that ends.
fn walk(
    path: &Path,
    first_file: Option<&BinlogFileName>,
    mut list: Option<&mut dyn FnMut(&EventLine)>,
    whole: &mut dyn FnMut(&Piece),
) -> Result<Inspection, LogError> {
    let mut reader = EventReader::open(path)?;
    let own = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.parse().ok());
    let manifest = manifest(path);
    let told = manifest
        .as_ref()
        .filter(|manifest| manifest.mismatch.is_none())
        .and_then(|manifest| manifest.range.as_ref())
        .map(|range| range.from.file.clone());
    let mut follower = Follower::new(first_file.cloned().or(told), own, None);
    let mut counts = Counts::default();
    let end = loop {
        let event = match reader.step()? {
            Step::Event(event) => event,
            Step::End(end) => break end,
        };
        if let Some(end) = follower.feed(&event) {
            break end;
        }
        counts.event(event.offset, &event.header, event.bytes, event.checksum);
        if let Some(list) = &mut list {
            list(&EventLine::new(event.offset, &event.header));
        }
        let placed = follower.builder().and_then(|builder| builder.last());
        if let Some(piece) = placed
            && piece.end_at == event.end()
            && piece.ended_at() == Some(piece.to)
        {
            counts.transactions += 1;
            whole(piece);
            if counts.first.is_none() {
                counts.first = piece.last_whole();
            }
        }
    };
    let size = reader.size();
    let followed = follower.finish(&reader, end);
    let map = followed.map;
    let extents = map.ranges();
    let holes = extents
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] => Some(StreamRange::new(a.to.clone(), b.from.clone())),
            _ => None,
        })
        .collect();
    let mut first = counts.first.take();
    if let (Some(first), Some((given, told))) = (&mut first, &followed.renamed)
        && first.end.file == *given
    {
        first.end.file = told.clone();
    }
    Ok(Inspection {
        file: path.to_owned(),
        size,
        kind: followed.kind,
        formats: counts.formats,
        events: counts.events,
        types: counts
            .types
            .into_iter()
            .map(|(type_code, (events, bytes))| TypeCount {
                name: type_code.to_string(),
                type_code: type_code.0,
                events,
                bytes,
            })
            .collect(),
        transactions: Transactions {
            count: counts.transactions,
            first,
            last: map.last_transaction(),
            open_since: map.open_since(),
        },
        primary_file_known: followed.named,
        extents,
        holes,
        checksums_verified: counts.verified,
        without_checksum: counts.events - counts.verified,
        end: map.end,
        manifest,
    })
}

#[derive(Default)]
struct Counts {
    events: u64,
    verified: u64,
    types: BTreeMap<EventType, (u64, u64)>,
    formats: Vec<FormatSeen>,
    transactions: u64,
    first: Option<TransactionRef>,
}

impl Counts {
    fn event(
        &mut self,
        offset: u64,
        header: &EventHeader,
        bytes: &[u8],
        checksum: ChecksumAlgorithm,
    ) {
        self.events += 1;
        let count = self.types.entry(header.type_code).or_default();
        *count = (count.0 + 1, count.1 + u64::from(header.event_size));
        let mut verified = checksum == ChecksumAlgorithm::Crc32;
        if header.type_code == EventType::FORMAT_DESCRIPTION
            && let Some(description) = FormatDescription::parse(bytes)
        {
            // Its own sum counts only where the events that follow have one.
            verified = description.checksum == ChecksumAlgorithm::Crc32;
            self.formats.push(FormatSeen {
                offset,
                server_id: header.server_id,
                server_version: description.server_version,
                checksum: match description.checksum {
                    ChecksumAlgorithm::None => "NONE",
                    ChecksumAlgorithm::Crc32 => "CRC32",
                },
            });
        }
        self.verified += u64::from(verified);
    }
}

/// The manifest beside a file, and whether the file is what it says.
fn manifest(path: &Path) -> Option<ManifestSeen> {
    if !Manifest::path_for(path).exists() {
        return None;
    }
    Some(match Manifest::load(path) {
        Ok(manifest) => ManifestSeen {
            mismatch: verify_digest(path, &manifest)
                .err()
                .map(|error| error.to_string()),
            range: Some(manifest.range),
            provider: manifest.provider,
            dropped_bytes: manifest.dropped_bytes,
        },
        Err(error) => ManifestSeen {
            range: None,
            provider: String::new(),
            dropped_bytes: 0,
            mismatch: Some(error.to_string()),
        },
    })
}
