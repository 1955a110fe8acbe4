//! Commands of a logged-in client.

use binlog_core::event::previous_gtids;
use binlog_core::{GtidSet, ServerId};

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
    /// `COM_BINLOG_DUMP`, `COM_BINLOG_DUMP_GTID`
    Dump(DumpRequest),
    /// Not a command of a replica, or not readable as one.
    Unknown(u8),
}

/// What a replica names to be served from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// `COM_BINLOG_DUMP`: a place.
    Place {
        /// File name as sent; may be empty or no file name at all.
        file: String,
        /// Low 32 bits of the offset in bytes; the command has no room for more.
        offset_low: u32,
    },
    /// `COM_BINLOG_DUMP_GTID`: every transaction that it has already.
    Gtids(GtidSet),
}

/// A replica asks for the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DumpRequest {
    /// From where.
    pub(super) from: From,
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
        0x1e => dump_gtid(fields).map_or(Command::Unknown(code), Command::Dump),
        0x1f => Command::Reset,
        _ => Command::Unknown(code),
    }
}

fn dump(mut fields: Fields<'_>) -> Option<DumpRequest> {
    let offset_low = fields.u32()?;
    let flags = fields.u16()?;
    let server_id = ServerId(fields.u32()?);
    Some(DumpRequest {
        from: From::Place {
            file: String::from_utf8_lossy(fields.rest()).into_owned(),
            offset_low,
        },
        non_block: flags & DUMP_NON_BLOCK != 0,
        server_id,
    })
}

/// Flags 2, server id 4, length and name of a file, offset 8 (neither of which counts), length and set. A request without
/// a set is not taken for one of a replica that has nothing.
fn dump_gtid(mut fields: Fields<'_>) -> Option<DumpRequest> {
    let flags = fields.u16()?;
    let server_id = ServerId(fields.u32()?);
    let name = usize::try_from(fields.u32()?).ok()?;
    fields.take(name)?;
    fields.take(8)?;
    let size = usize::try_from(fields.u32()?).ok()?;
    Some(DumpRequest {
        from: From::Gtids(previous_gtids::parse(fields.take(size)?)?),
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
                from: From::Place {
                    file: "mysql-bin.000001".to_owned(),
                    offset_low: 452,
                },
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

    #[test]
    fn a_request_by_gtid_is_read_or_refused_and_never_empty_by_accident() {
        // As 9.7 sends it: flag 4, server 3, no file, offset 4, a set of one UUID with 1-5.
        let head = b"\x1e\x04\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0";
        let set = [
            &1u64.to_le_bytes()[..],
            &[0x11; 16],
            &1u64.to_le_bytes(),
            &1u64.to_le_bytes(),
            &6u64.to_le_bytes(),
        ]
        .concat();
        let size = u32::try_from(set.len()).unwrap().to_le_bytes();
        let whole = [&head[..], &size, &set].concat();
        assert_eq!(
            parse(&whole),
            Command::Dump(DumpRequest {
                from: From::Gtids("11111111-1111-1111-1111-111111111111:1-5".parse().unwrap()),
                non_block: false,
                server_id: ServerId(3),
            })
        );
        for length in 1..whole.len() {
            assert_eq!(parse(&whole[..length]), Command::Unknown(0x1e), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_some_command(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            parse(&bytes);
        }
    }
}
