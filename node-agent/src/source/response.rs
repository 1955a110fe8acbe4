//! What the local source answers to a command: OK, ERR, EOF, and text result sets, as payloads ready to be framed.

use super::packet::{put_lenenc_bytes, put_lenenc_int};

/// `SERVER_STATUS_AUTOCOMMIT`, the state of a session that changed nothing.
pub(super) const STATUS_AUTOCOMMIT: u16 = 0x0002;
/// `utf8_general_ci`.
pub(super) const CHARSET_UTF8: u8 = 33;
const TYPE_VAR_STRING: u8 = 0xfd;
/// Longest text of an error on old servers (`MYSQL_ERRMSG_SIZE`).
const MAX_MESSAGE: usize = 512;

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorReply {
    /// Number by MySQL's list.
    pub(super) code: u16,
    /// Five characters of SQLSTATE.
    pub(super) state: [u8; 5],
    /// What is wrong, for the replica's `Last_IO_Error`.
    pub(super) message: String,
}

impl ErrorReply {
    /// `ER_CON_COUNT_ERROR`.
    pub(super) fn too_many_connections() -> Self {
        Self::new(1040, *b"08004", "Too many connections".to_owned())
    }

    /// `ER_HANDSHAKE_ERROR`.
    pub(super) fn bad_handshake() -> Self {
        Self::new(1043, *b"08S01", "Bad handshake".to_owned())
    }

    /// `ER_ACCESS_DENIED_ERROR`.
    pub(super) fn access_denied(user: &str) -> Self {
        let message = format!("Access denied for user '{user}' of the local source");
        Self::new(1045, *b"28000", message)
    }

    /// `ER_UNKNOWN_COM_ERROR`.
    pub(super) fn unknown_command(code: u8) -> Self {
        let message = format!("Unknown command 0x{code:02x}: the local source only replays");
        Self::new(1047, *b"08S01", message)
    }

    /// `ER_PARSE_ERROR`.
    pub(super) fn not_understood(statement: &str) -> Self {
        let message = format!("The local source does not answer: {statement}");
        Self::new(1064, *b"42000", message)
    }

    /// `ER_UNKNOWN_SYSTEM_VARIABLE`: what a replica takes as "the source is too old to know this".
    pub(super) fn unknown_variable(name: &str) -> Self {
        Self::new(1193, *b"HY000", format!("Unknown system variable '{name}'"))
    }

    /// `ER_MASTER_FATAL_ERROR_READING_BINLOG`: the receiver stops, keeps what it has, and shows the reason.
    pub(super) fn cannot_replay(reason: &str) -> Self {
        Self::new(1236, *b"HY000", reason.to_owned())
    }

    fn new(code: u16, state: [u8; 5], mut message: String) -> Self {
        if message.len() >= MAX_MESSAGE {
            let mut end = MAX_MESSAGE - 1;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
        }
        Self {
            code,
            state,
            message,
        }
    }

    /// The payload.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut out = vec![0xff];
        out.extend_from_slice(&self.code.to_le_bytes());
        out.push(b'#');
        out.extend_from_slice(&self.state);
        out.extend_from_slice(self.message.as_bytes());
        out
    }
}

/// Payload of an OK.
pub(super) fn ok() -> Vec<u8> {
    let mut out = vec![0x00, 0, 0];
    out.extend_from_slice(&STATUS_AUTOCOMMIT.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out
}

/// Payload of an EOF.
pub(super) fn eof() -> Vec<u8> {
    let mut out = vec![0xfe, 0, 0];
    out.extend_from_slice(&STATUS_AUTOCOMMIT.to_le_bytes());
    out
}

/// Rows of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    /// Column names.
    pub(super) columns: Vec<String>,
    /// Rows; `None` is NULL.
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// The payloads, in order.
    pub(super) fn payloads(&self) -> Vec<Vec<u8>> {
        let mut count = Vec::new();
        put_lenenc_int(&mut count, self.columns.len() as u64);
        let mut payloads = vec![count];
        payloads.extend(self.columns.iter().map(|name| column_definition(name)));
        payloads.push(eof());
        for row in &self.rows {
            let mut out = Vec::new();
            for value in row {
                match value {
                    Some(text) => put_lenenc_bytes(&mut out, text.as_bytes()),
                    None => out.push(0xfb),
                }
            }
            payloads.push(out);
        }
        payloads.push(eof());
        payloads
    }
}

fn column_definition(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for text in ["def", "", "", "", name, ""] {
        put_lenenc_bytes(&mut out, text.as_bytes());
    }
    out.push(0x0c); // length of the fixed fields
    out.extend_from_slice(&u16::from(CHARSET_UTF8).to_le_bytes());
    out.extend_from_slice(&1024u32.to_le_bytes()); // longest value, for display only
    out.push(TYPE_VAR_STRING);
    out.extend_from_slice(&[0, 0]); // flags
    out.push(0); // decimals
    out.extend_from_slice(&[0, 0]); // filler
    out
}

/// What a command is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Done.
    Ok,
    /// Rows.
    Rows(Rows),
    /// Refused.
    Error(ErrorReply),
    /// The old end mark (`COM_SET_OPTION`).
    Eof,
}

impl Reply {
    /// The payloads, in order.
    pub(super) fn payloads(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Ok => vec![ok()],
            Self::Rows(rows) => rows.payloads(),
            Self::Error(error) => vec![error.payload()],
            Self::Eof => vec![eof()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let reply = ErrorReply::cannot_replay(&"ü".repeat(400));
        assert_eq!(reply.message.len(), 510);
        assert!(reply.message.chars().all(|c| c == 'ü'));
    }

    #[test]
    fn null_and_empty_are_different_values() {
        let rows = Rows {
            columns: vec!["a".into(), "b".into()],
            rows: vec![vec![None, Some(String::new())]],
        };
        let payloads = rows.payloads();
        assert_eq!(payloads.len(), 6);
        assert_eq!(payloads[4], [0xfb, 0x00]);
    }
}
