//! Events whose header does not say where they end.
//!
//! MariaDB 11.4 and newer write events from a transaction's cache with `log_pos` 0, so that their checksums need not be made anew
//! at the commit (`binlog_legacy_event_pos=OFF`, the default), into binary logs and from there into relay logs. Seen on 11.8.6:
//! the GTID event and the last event of a group (XID, COMMIT or XA PREPARE) name their end, those between may not. Nothing
//! stands between the events of a group, so each of them ends where the one before it did, plus its size. The last one proves the
//! sum: if anything is missing inside, its place does not fit.
//!
//! The bytes of the event stay as they are; only the header that is handed out has the place.

use crate::event::{EventHeader, EventType, FLAG_ARTIFICIAL, FLAG_RELAY_LOG};

/// Where the walk is inside a MariaDB group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    /// End of the last event modulo 2^32; `None` outside.
    reached: Option<u32>,
}

impl Group {
    /// Possibly inside of one, at this place of the primary's file.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn at(place: u64) -> Self {
        Self {
            reached: Some(place as u32),
        }
    }

    /// Passes an event; yields its header with the place it has.
    #[inline]
    pub(super) fn pass(&mut self, header: EventHeader) -> EventHeader {
        if self.reached.is_none() && header.type_code != EventType::MARIADB_GTID {
            return header;
        }
        self.pass_inside(header)
    }

    fn pass_inside(&mut self, mut header: EventHeader) -> EventHeader {
        let outside = header.has_flag(FLAG_ARTIFICIAL)
            || header.has_flag(FLAG_RELAY_LOG)
            || matches!(
                header.type_code,
                EventType::FORMAT_DESCRIPTION
                    | EventType::ROTATE
                    | EventType::STOP
                    | EventType::MARIADB_GTID_LIST
                    | EventType::MARIADB_BINLOG_CHECKPOINT
                    | EventType::HEARTBEAT
                    | EventType::HEARTBEAT_V2
            );
        if outside {
            self.reached = None;
            return header;
        }
        if header.type_code != EventType::MARIADB_GTID
            && header.log_pos == 0
            && let Some(reached) = self.reached
        {
            header.log_pos = reached.wrapping_add(header.event_size);
        }
        self.reached = (header.type_code != EventType::XID).then_some(header.log_pos);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(type_code: EventType, event_size: u32, log_pos: u32, flags: u16) -> EventHeader {
        EventHeader {
            timestamp: 1,
            type_code,
            server_id: 1,
            event_size,
            log_pos,
            flags,
        }
    }

    #[test]
    fn events_of_a_group_follow_each_other() {
        let mut group = Group::default();
        // As 11.8.6 wrote them, and what they mean; then what may not be filled in.
        let events = [
            (EventType::MARIADB_GTID, 42, 801, 8, 801),
            (EventType::MARIADB_ANNOTATE_ROWS, 52, 0, 0, 853),
            (EventType::TABLE_MAP, 43, 0, 0, 896),
            (EventType::WRITE_ROWS_V1, 41, 0, 0, 937),
            (EventType::XID, 31, 968, 0, 968),
            (EventType::TABLE_MAP, 43, 0, 0, 0),
            (EventType::MARIADB_GTID, 42, 1010, 8, 1010),
            (EventType::ROTATE, 47, 0, FLAG_ARTIFICIAL, 0),
            (EventType::FORMAT_DESCRIPTION, 252, 0, 0, 0),
            (EventType::TABLE_MAP, 43, 0, 0, 0),
            (EventType::MARIADB_GTID, 42, u32::MAX - 9, 0, u32::MAX - 9),
            (EventType::QUERY, 60, 0, 0, 50),
            (EventType::QUERY, 50, 100, 8, 100),
        ];
        for (type_code, size, log_pos, flags, place) in events {
            let passed = group.pass(header(type_code, size, log_pos, flags));
            assert_eq!(passed.log_pos, place, "{type_code} with log_pos {log_pos}");
        }
    }

    #[test]
    fn a_place_that_is_known_counts_until_the_group_ends() {
        let mut group = Group::at(896);
        let row = header(EventType::WRITE_ROWS_V1, 41, 0, 0);
        assert_eq!(group.pass(row).log_pos, 937);
        assert_eq!(group.pass(header(EventType::XID, 31, 968, 0)).log_pos, 968);
        assert_eq!(group.pass(row).log_pos, 0);
    }
}
