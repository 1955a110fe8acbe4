//! What a single event of a relay log is: the replica's own, a stated position, or a part of the primary's stream.

use crate::event::{EventType, FIRST_EVENT, FLAG_ARTIFICIAL, FLAG_RELAY_LOG, rotate};
use crate::position::{BinlogPosition, ServerId};
use crate::reader::RawEvent;

/// What an event of a relay log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The replica's own.
    Local,
    /// States a position.
    States {
        position: BinlogPosition,
        by_receiver: bool,
    },
    /// The primary's Rotate.
    Rotate { to: BinlogPosition },
    /// A format description of the primary.
    Format,
    /// Takes no place.
    Artificial,
    /// An event of the stream.
    Data,
    /// A Rotate that names no file.
    Malformed,
}

/// Sorts out one event; `expected` is the place reached, as far as known.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn classify(event: &RawEvent<'_>, owner: ServerId, expected: Option<u64>) -> Kind {
    let header = &event.header;
    let own = header.has_flag(FLAG_RELAY_LOG) || header.server_id == owner.0;
    let framing = matches!(
        header.type_code,
        EventType::FORMAT_DESCRIPTION
            | EventType::ROTATE
            | EventType::STOP
            | EventType::MARIADB_START_ENCRYPTION
    );
    // The replica writes its own format description first, whatever ids are configured now.
    if (framing && own)
        || (event.offset == FIRST_EVENT && header.type_code == EventType::FORMAT_DESCRIPTION)
        || header.has_flag(FLAG_RELAY_LOG)
    {
        return Kind::Local;
    }
    // An event that ends at a multiple of 4 GiB has log_pos 0 like those that take no place.
    let placeless = header.has_flag(FLAG_ARTIFICIAL)
        || (header.log_pos == 0
            && expected
                .map(|at| at.saturating_add(u64::from(header.event_size)))
                .is_none_or(|end| end as u32 != 0));
    match header.type_code {
        EventType::ROTATE => {
            let Some(to) = rotate::parse(event.body()) else {
                return Kind::Malformed;
            };
            if header.server_id == 0 {
                return Kind::States {
                    position: to,
                    by_receiver: true,
                };
            }
            if placeless {
                return Kind::States {
                    position: to,
                    by_receiver: false,
                };
            }
            let continues = expected
                .is_some_and(|at| header.log_pos == (at as u32).wrapping_add(header.event_size));
            if !continues && u64::from(header.log_pos) == event.end() {
                return Kind::States {
                    position: to,
                    by_receiver: true,
                };
            }
            Kind::Rotate { to }
        }
        EventType::FORMAT_DESCRIPTION => Kind::Format,
        EventType::STOP | EventType::HEARTBEAT | EventType::HEARTBEAT_V2 => Kind::Artificial,
        _ if placeless => Kind::Artificial,
        _ => Kind::Data,
    }
}
