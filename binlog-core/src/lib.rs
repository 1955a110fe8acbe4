//! Reads, verifies, locates, cuts and joins MySQL and MariaDB binary logs and relay logs.
//!
//! What holds for the whole crate:
//!
//! - **No input makes it panic.** Every byte of a file is checked before use, every length is bounded before memory is
//!   taken for it, arithmetic on offsets is checked. There is no `unsafe` code.
//! - **Memory is constant** whatever the size of a file or an event: files are read by positioned reads into one buffer,
//!   events over 1 MiB are verified and copied in blocks.
//! - **The end of data is a value, not an error**: how a log ends is a [`LogEnd`], and a cut that finds nothing is a
//!   [`CutPlan::Nothing`].
//! - **Nothing is accepted silently**: each event must continue where the one before it ended; what is missing is a
//!   hole that is reported with both ends. The kinds of gaps that are normal are listed in [`extent`].
//!
//! The crate knows neither async, nor network, nor SQL.

pub mod binary_log;
pub mod checksum;
pub mod end;
pub mod error;
pub mod event;
pub mod extent;
mod follow;
pub mod gtid;
mod gtid_place;
pub mod index;
pub mod inspect;
pub mod log_directory;
mod map;
mod mariadb_position;
pub mod position;
pub mod reader;
mod relay_jump;
pub mod relay_log;
mod relay_walk;
pub mod segment;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transaction;
mod unfinished;

pub use binary_log::BinaryLogs;
pub use end::LogEnd;
pub use error::LogError;
pub use event::{EventHeader, EventType};
pub use extent::{EventDigest, Located, Survey, TransactionRef, UnfinishedTail};
pub use follow::FileKind;
pub use gtid::{Gtid, GtidError, GtidSet, GtidState, MariaDbGtid, MariaDbGtidPos, Relation};
pub use index::{MasterInfo, RelayLogInfo, read_index};
pub use inspect::{EventLine, Inspection, inspect, transactions};
pub use log_directory::LogDirectory;
pub use position::{
    BinlogFileName, BinlogPosition, PositionError, RelayFileName, RelayPosition, ServerId,
    StreamRange,
};
pub use relay_log::RelayLogs;
pub use segment::{
    ChainEvents, Cut, CutPlan, EventBlocks, EventBytes, FormatDescriptionPatch, Manifest,
    ManifestExtent, NothingReason, NothingToCut, SegmentChain, StreamedEvent,
    patch_format_description,
};
