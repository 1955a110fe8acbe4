//! FORMAT_DESCRIPTION_EVENT: the head of every file.
//!
//! The number of post-header lengths differs by server, so the checksum algorithm is found from the event's end: the
//! last five bytes are the algorithm and the event's own checksum (servers from 5.6.1 and MariaDB 5.3.0 on).

use super::bytes::Cursor;
use super::header::HEADER_LEN;
use crate::checksum::ChecksumAlgorithm;

/// Length of the server version.
const VERSION_LEN: usize = 50;
/// Servers before checksums know at most so many event types; a longer table under an old version is a damaged version.
const OLD_TYPES_MAX: usize = 30;
/// Offset of `created` in the whole event: header, binlog version, server version.
pub(crate) const CREATED_OFFSET: usize = HEADER_LEN as usize + 2 + VERSION_LEN;

/// A format description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatDescription {
    /// Version of the binary log format; 4 since MySQL 5.0.
    pub binlog_version: u16,
    /// Version of the server that wrote the file.
    pub server_version: String,
    /// Seconds since 1970 at which the server started if the file is the first since then, else 0.
    pub created: u32,
    /// Length of the common header; 19.
    pub header_length: u8,
    /// Length of the post-header of each event type from 1 on.
    pub post_header_lengths: Vec<u8>,
    /// How events of this file are protected.
    pub checksum: ChecksumAlgorithm,
    /// The event itself ends with a checksum (whatever `checksum` says).
    pub has_checksum_field: bool,
}

impl FormatDescription {
    /// Reads a whole event (header and checksum included). `None` if it is malformed or of a format before 4.
    #[must_use]
    pub fn parse(event: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(event.get(HEADER_LEN as usize..)?);
        let binlog_version = cursor.u16()?;
        let version = cursor.take(VERSION_LEN)?;
        let version = version.split(|&b| b == 0).next().unwrap_or_default();
        let server_version = String::from_utf8_lossy(version).into_owned();
        let created = cursor.u32()?;
        let header_length = cursor.u8()?;
        let rest = cursor.rest();
        if binlog_version != 4 || u32::from(header_length) != HEADER_LEN {
            return None;
        }
        let has_checksum_field = has_checksum_field(&server_version);
        let (lengths, checksum) = if has_checksum_field {
            let (lengths, tail) = rest.split_last_chunk::<5>()?;
            let [algorithm, ..] = *tail;
            let checksum = match algorithm {
                0 => ChecksumAlgorithm::None,
                1 => ChecksumAlgorithm::Crc32,
                _ => return None,
            };
            (lengths, checksum)
        } else if rest.len() > OLD_TYPES_MAX {
            return None;
        } else {
            (rest, ChecksumAlgorithm::None)
        };
        Some(Self {
            binlog_version,
            server_version,
            created,
            header_length,
            post_header_lengths: lengths.to_vec(),
            checksum,
            has_checksum_field,
        })
    }

    /// True if a MariaDB server wrote the file.
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        self.server_version.contains("MariaDB")
    }
}

/// MySQL from 5.6.1 on, MariaDB from 5.3.0 on.
fn has_checksum_field(version: &str) -> bool {
    // MariaDB 10 and newer may put 5.5.5- in front for the sake of old replicas.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse::<u32>().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let triple = (number(), number(), number());
    let first = if version.contains("MariaDB") {
        (5, 3, 0)
    } else {
        (5, 6, 1)
    };
    triple >= first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_a_checksum_field() {
        for yes in [
            "5.6.1",
            "5.6.24-log",
            "8.0.36",
            "9.7.4",
            "26.10.1.2",
            "10.11.19-MariaDB-log",
            "5.5.5-10.4.1-MariaDB",
            "5.3.0-MariaDB",
        ] {
            assert!(has_checksum_field(yes), "{yes}");
        }
        for no in ["5.6.0", "5.5.62-log", "5.1.73", "5.2.14-MariaDB", "", "x"] {
            assert!(!has_checksum_field(no), "{no}");
        }
    }
}
