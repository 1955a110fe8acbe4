//! How long what a receiver does not store can be, and where it can stand.

use crate::event::{EventType, HEADER_LEN};
use crate::reader::RawEvent;

/// No MariaDB transaction is shorter: GTID event 38 and a statement of 19 + 13 + 14 and a few letters of text.
pub(super) const SHORTEST_GROUP: u64 = 84;
/// No transaction with a MySQL GTID is shorter: GTID event 44, statement 19 + 13, its flags, SQL mode, catalog and character
/// sets 26, a database name 1 and a few letters of text.
pub(super) const SHORTEST_MYSQL_GROUP: u64 = 105;
/// Body of a Gtid_list event without entries (it is padded), and of each entry.
const GTID_LIST_EMPTY: u64 = 4;
const GTID_LIST_ENTRY: u64 = 16;
/// Most entries believed.
const GTID_LIST_MAX: u64 = 4096;
/// START_ENCRYPTION_EVENT: scheme 1, key version 4, nonce 12.
const START_ENCRYPTION_BODY: u64 = 17;

/// What an Annotate_rows can follow inside a transaction: its GTID, a statement, the last row event of one.
pub(super) fn ends_statement(event: &RawEvent<'_>) -> bool {
    /// `STMT_END_F` in the flags of a row event, which follow the table id.
    const STMT_END: u8 = 1;
    match event.type_code() {
        EventType::MARIADB_GTID
        | EventType::QUERY
        | EventType::MARIADB_QUERY_COMPRESSED
        | EventType::EXECUTE_LOAD_QUERY => true,
        EventType(20..=25 | 30..=32 | 166..=171) => event
            .body()
            .get(6)
            .is_some_and(|flags| flags & STMT_END != 0),
        _ => false,
    }
}

/// How many bytes of a gap are more than what must stand there anyway, if the gap has exactly the length of MariaDB's
/// unstored events: at the head of a file [Start_encryption,] Gtid_list and one or two Binlog_checkpoint, elsewhere one to four
/// Binlog_checkpoint.
pub(super) fn mariadb_spare(
    gap: u64,
    head: bool,
    name_len: u64,
    checksum: u64,
    writers: u64,
) -> Option<u64> {
    let overhead = u64::from(HEADER_LEN) + checksum;
    let checkpoint = overhead + 4 + name_len;
    if !head {
        let count = gap / checkpoint;
        return (gap.is_multiple_of(checkpoint) && (1..=4).contains(&count))
            .then(|| gap - checkpoint);
    }
    let list = overhead + GTID_LIST_EMPTY;
    let encryption = overhead + START_ENCRYPTION_BODY;
    for fixed in [
        list + checkpoint,
        list + 2 * checkpoint,
        list,
        encryption + list + checkpoint,
    ] {
        let Some(rest) = gap.checked_sub(fixed) else {
            continue;
        };
        let entries = rest / GTID_LIST_ENTRY;
        if rest.is_multiple_of(GTID_LIST_ENTRY) && (writers..=GTID_LIST_MAX).contains(&entries) {
            return Some(gap.saturating_sub(list + checkpoint));
        }
        // An empty list is padded to the length of the header of its kind.
        if writers == 0 && rest == 2 {
            return Some(gap.saturating_sub(list + checkpoint));
        }
    }
    None
}
