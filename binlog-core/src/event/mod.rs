//! Events: one file per family. Each parser takes the body (without header and checksum), checks every length, and
//! returns `None` for a body it cannot read; the walk then names file and offset.

mod bytes;
pub mod format_description;
pub mod gtid;
pub mod header;
pub mod heartbeat;
pub mod mariadb;
pub mod payload;
pub mod previous_gtids;
pub mod query;
pub mod rotate;
pub mod table_map;
pub mod type_code;
pub mod xid;

pub use format_description::FormatDescription;
pub use header::{EventHeader, HEADER_LEN};
pub use type_code::EventType;

/// `LOG_EVENT_BINLOG_IN_USE_F`: in a format description, the file is not closed.
pub const FLAG_IN_USE: u16 = 0x0001;
/// `LOG_EVENT_ARTIFICIAL_F`: made for the reader; occupies no place in the primary's file.
pub const FLAG_ARTIFICIAL: u16 = 0x0020;
/// `LOG_EVENT_RELAY_LOG_F`: written by the replica itself.
pub const FLAG_RELAY_LOG: u16 = 0x0040;

/// First bytes of every binary log and relay log file.
pub const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// First bytes of an encrypted MySQL 8 log file.
pub const MAGIC_ENCRYPTED: [u8; 4] = [0xfd, b'b', b'i', b'n'];
/// Offset of the first event of a file.
pub const FIRST_EVENT: u64 = 4;
