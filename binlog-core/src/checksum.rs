//! Event checksums: CRC-32 over header and body, the last four bytes of the event.
//!
//! The algorithm is a property of each file, named by its format description. That event itself always carries a
//! checksum field (servers from 5.6 and MariaDB 5.3 on), and its sum is taken with the in-use flag cleared, since the
//! server flips that flag in place when it closes the file.

use serde::{Deserialize, Serialize};

/// How the events of a file are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChecksumAlgorithm {
    /// No checksum.
    None,
    /// CRC-32 (zlib's polynomial), little endian, at the end of each event.
    Crc32,
}

impl ChecksumAlgorithm {
    /// Bytes at the end of each event.
    #[must_use]
    pub fn len(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Crc32 => CHECKSUM_LEN,
        }
    }

    /// True if events carry no checksum.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::None
    }
}

/// Length of a CRC-32 field.
pub const CHECKSUM_LEN: u32 = 4;

/// CRC-32 of some bytes.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// (stored, computed) checksums of a whole event that carries one; `None` if it is too short.
#[must_use]
pub fn checksums(event: &[u8]) -> Option<(u32, u32)> {
    let (content, stored) = event.split_last_chunk::<4>()?;
    Some((u32::from_le_bytes(*stored), crc32(content)))
}
