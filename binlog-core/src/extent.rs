//! What a provider of events holds, and answers about it.

use crate::end::LogEnd;
use crate::position::{BinlogPosition, RelayPosition, StreamRange};

/// What a provider holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Contiguous ranges of the primary's stream, ascending; a range spans files where continuity is proven.
    pub ranges: Vec<StreamRange>,
    /// What is missing between them.
    pub holes: Vec<StreamRange>,
    /// How the last file ends.
    pub end: LogEnd,
    /// End of the last whole transaction. Where no transaction is held: the start of what was read. `None` if nothing is held.
    /// Replicas that applied everything here stand at this position (a closing Stop or Rotate is not counted).
    pub whole_end: Option<BinlogPosition>,
    /// End of the last event held; beyond `whole_end` if an unfinished transaction, a Stop or a Rotate follows.
    pub data_end: Option<BinlogPosition>,
    /// The last whole transaction.
    pub last_transaction: Option<TransactionRef>,
    /// Bytes walked for this answer.
    pub walked_bytes: u64,
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TransactionRef {
    /// Where it ends.
    pub end: BinlogPosition,
    /// Its GTID in the server's notation.
    pub gtid: Option<String>,
    /// The XID it ends with.
    pub xid: Option<u64>,
}

/// Identity of one event, to compare what two providers hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDigest {
    /// Where it starts.
    pub start: BinlogPosition,
    /// Where it ends.
    pub end: BinlogPosition,
    /// Type code.
    pub type_code: u8,
    /// sha256 of header and body without the checksum.
    pub sha256: [u8; 32],
}

/// Where a primary position is in the relay logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// End of the event that ends at the target; else start of the first event at the target.
    pub position: RelayPosition,
    /// Nothing of the primary follows.
    pub at_end: bool,
}

/// What an unfinished last transaction holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedTail {
    /// Where it starts.
    pub start: BinlogPosition,
    /// End of the last event of it that is held.
    pub end: BinlogPosition,
    /// (database, table) named by its Table_map events, each once, in order of first use.
    pub tables: Vec<(String, String)>,
    /// (default database, text) of its statements, BEGIN excluded, each text cut at 4 KiB.
    pub statements: Vec<(Option<String>, String)>,
    /// More tables or statements, or longer texts, than the limits (256 each).
    pub truncated: bool,
}
