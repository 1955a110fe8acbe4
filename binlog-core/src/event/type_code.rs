//! Type codes by the symbols of the server's source.

use std::fmt;

/// Type of an event. Unknown codes are kept: a newer server's events are copied like any other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(pub u8);

macro_rules! types {
    ($($name:ident = $code:literal $symbol:literal;)*) => {
        impl EventType {
            $(#[doc = concat!("`", $symbol, "`")] pub const $name: Self = Self($code);)*

            /// The server's symbol; `None` for unknown codes.
            #[must_use]
            pub fn symbol(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($symbol),)*
                    _ => None,
                }
            }
        }
    };
}

types! {
    START_V3 = 1 "START_EVENT_V3";
    QUERY = 2 "QUERY_EVENT";
    STOP = 3 "STOP_EVENT";
    ROTATE = 4 "ROTATE_EVENT";
    INTVAR = 5 "INTVAR_EVENT";
    LOAD = 6 "LOAD_EVENT";
    SLAVE = 7 "SLAVE_EVENT";
    CREATE_FILE = 8 "CREATE_FILE_EVENT";
    APPEND_BLOCK = 9 "APPEND_BLOCK_EVENT";
    EXEC_LOAD = 10 "EXEC_LOAD_EVENT";
    DELETE_FILE = 11 "DELETE_FILE_EVENT";
    NEW_LOAD = 12 "NEW_LOAD_EVENT";
    RAND = 13 "RAND_EVENT";
    USER_VAR = 14 "USER_VAR_EVENT";
    FORMAT_DESCRIPTION = 15 "FORMAT_DESCRIPTION_EVENT";
    XID = 16 "XID_EVENT";
    BEGIN_LOAD_QUERY = 17 "BEGIN_LOAD_QUERY_EVENT";
    EXECUTE_LOAD_QUERY = 18 "EXECUTE_LOAD_QUERY_EVENT";
    TABLE_MAP = 19 "TABLE_MAP_EVENT";
    PRE_GA_WRITE_ROWS = 20 "PRE_GA_WRITE_ROWS_EVENT";
    PRE_GA_UPDATE_ROWS = 21 "PRE_GA_UPDATE_ROWS_EVENT";
    PRE_GA_DELETE_ROWS = 22 "PRE_GA_DELETE_ROWS_EVENT";
    WRITE_ROWS_V1 = 23 "WRITE_ROWS_EVENT_V1";
    UPDATE_ROWS_V1 = 24 "UPDATE_ROWS_EVENT_V1";
    DELETE_ROWS_V1 = 25 "DELETE_ROWS_EVENT_V1";
    INCIDENT = 26 "INCIDENT_EVENT";
    HEARTBEAT = 27 "HEARTBEAT_LOG_EVENT";
    IGNORABLE = 28 "IGNORABLE_LOG_EVENT";
    ROWS_QUERY = 29 "ROWS_QUERY_LOG_EVENT";
    WRITE_ROWS = 30 "WRITE_ROWS_EVENT";
    UPDATE_ROWS = 31 "UPDATE_ROWS_EVENT";
    DELETE_ROWS = 32 "DELETE_ROWS_EVENT";
    GTID = 33 "GTID_LOG_EVENT";
    ANONYMOUS_GTID = 34 "ANONYMOUS_GTID_LOG_EVENT";
    PREVIOUS_GTIDS = 35 "PREVIOUS_GTIDS_LOG_EVENT";
    TRANSACTION_CONTEXT = 36 "TRANSACTION_CONTEXT_EVENT";
    VIEW_CHANGE = 37 "VIEW_CHANGE_EVENT";
    XA_PREPARE = 38 "XA_PREPARE_LOG_EVENT";
    PARTIAL_UPDATE_ROWS = 39 "PARTIAL_UPDATE_ROWS_EVENT";
    TRANSACTION_PAYLOAD = 40 "TRANSACTION_PAYLOAD_EVENT";
    HEARTBEAT_V2 = 41 "HEARTBEAT_LOG_EVENT_V2";
    GTID_TAGGED = 42 "GTID_TAGGED_LOG_EVENT";
    MARIADB_ANNOTATE_ROWS = 160 "ANNOTATE_ROWS_EVENT";
    MARIADB_BINLOG_CHECKPOINT = 161 "BINLOG_CHECKPOINT_EVENT";
    MARIADB_GTID = 162 "GTID_EVENT";
    MARIADB_GTID_LIST = 163 "GTID_LIST_EVENT";
    MARIADB_START_ENCRYPTION = 164 "START_ENCRYPTION_EVENT";
    MARIADB_QUERY_COMPRESSED = 165 "QUERY_COMPRESSED_EVENT";
    MARIADB_WRITE_ROWS_COMPRESSED_V1 = 166 "WRITE_ROWS_COMPRESSED_EVENT_V1";
    MARIADB_UPDATE_ROWS_COMPRESSED_V1 = 167 "UPDATE_ROWS_COMPRESSED_EVENT_V1";
    MARIADB_DELETE_ROWS_COMPRESSED_V1 = 168 "DELETE_ROWS_COMPRESSED_EVENT_V1";
    MARIADB_WRITE_ROWS_COMPRESSED = 169 "WRITE_ROWS_COMPRESSED_EVENT";
    MARIADB_UPDATE_ROWS_COMPRESSED = 170 "UPDATE_ROWS_COMPRESSED_EVENT";
    MARIADB_DELETE_ROWS_COMPRESSED = 171 "DELETE_ROWS_COMPRESSED_EVENT";
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.symbol() {
            Some(symbol) => f.write_str(symbol),
            None => write!(f, "event type {}", self.0),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
