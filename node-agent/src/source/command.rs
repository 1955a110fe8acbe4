//! Commands of a logged-in client.

use binlog_core::ServerId;

use super::packet::Fields;

/// `BINLOG_DUMP_NON_BLOCK`: end with EOF instead of waiting for more.
const DUMP_NON_BLOCK: u16 = 1;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// `COM_QUIT`
    Quit,
    /// `COM_QUERY`
    Query(String),
    /// `COM_PING`, `COM_INIT_DB`, `COM_PROCESS_KILL`: OK is all there is to say.
    Acknowledge,
    /// `COM_SET_OPTION`
    SetOption,
    /// `COM_RESET_CONNECTION`
    Reset,
    /// `COM_REGISTER_SLAVE`
    RegisterReplica,
    /// `COM_BINLOG_DUMP`
    Dump(DumpRequest),
    /// `COM_BINLOG_DUMP_GTID`: by GTID set, not served by this build.
    DumpGtid,
    /// Not a command of a replica, or not readable as one.
    Unknown(u8),
}

/// `COM_BINLOG_DUMP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DumpRequest {
    /// File name as sent; may be empty or no file name at all.
    pub(super) file: String,
    /// Low 32 bits of the offset in bytes; the command has no room for more.
    pub(super) offset_low: u32,
    /// End with EOF instead of waiting.
    pub(super) non_block: bool,
    /// The replica's own id.
    pub(super) server_id: ServerId,
}

/// Reads a command.
pub(super) fn parse(payload: &[u8]) -> Command {
    let mut fields = Fields::of(payload);
    let Some(code) = fields.u8() else {
        return Command::Unknown(0);
    };
    match code {
        0x01 => Command::Quit,
        0x02 | 0x0c | 0x0e => Command::Acknowledge,
        0x03 => Command::Query(String::from_utf8_lossy(fields.rest()).into_owned()),
        0x12 => dump(fields).map_or(Command::Unknown(code), Command::Dump),
        0x15 => Command::RegisterReplica,
        0x1b => Command::SetOption,
        0x1e => Command::DumpGtid,
        0x1f => Command::Reset,
        _ => Command::Unknown(code),
    }
}

fn dump(mut fields: Fields<'_>) -> Option<DumpRequest> {
    let offset_low = fields.u32()?;
    let flags = fields.u16()?;
    let server_id = ServerId(fields.u32()?);
    Some(DumpRequest {
        file: String::from_utf8_lossy(fields.rest()).into_owned(),
        offset_low,
        non_block: flags & DUMP_NON_BLOCK != 0,
        server_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dump_request_is_read() {
        let payload = b"\x12\xc4\x01\0\0\x01\0\x02\0\0\0mysql-bin.000001";
        assert_eq!(
            parse(payload),
            Command::Dump(DumpRequest {
                file: "mysql-bin.000001".to_owned(),
                offset_low: 452,
                non_block: true,
                server_id: ServerId(2),
            })
        );
        assert_eq!(parse(&payload[..8]), Command::Unknown(0x12));
        assert_eq!(parse(b""), Command::Unknown(0));
        assert_eq!(
            parse(b"\x03SELECT 1"),
            Command::Query("SELECT 1".to_owned())
        );
    }

    proptest! {
        #[test]
        fn any_payload_is_some_command(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            parse(&bytes);
        }
    }
}
