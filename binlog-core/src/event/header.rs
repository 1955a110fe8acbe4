//! The common header of an event, version 4: 19 bytes, little endian.

use super::type_code::EventType;

/// Length of the header in bytes.
pub const HEADER_LEN: u32 = 19;

/// Fields of the header, under their names in the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHeader {
    /// Seconds since 1970 when the statement began (offset 0).
    pub timestamp: u32,
    /// Type (offset 4).
    pub type_code: EventType,
    /// Server that wrote the event first (offset 5).
    pub server_id: u32,
    /// Whole event in bytes, header and checksum included (offset 9).
    pub event_size: u32,
    /// **End** of the event in the primary's file, modulo 2^32; 0 for artificial events (offset 13). MariaDB 11.4 and newer
    /// also leave it 0 inside transactions; a reader then hands out the place that it must be.
    pub log_pos: u32,
    /// Flags (offset 17).
    pub flags: u16,
}

impl EventHeader {
    /// Reads the first 19 bytes; `None` if there are fewer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        // One check of the length for all fields: this is read for every event of a log.
        let &[
            t0,
            t1,
            t2,
            t3,
            code,
            s0,
            s1,
            s2,
            s3,
            z0,
            z1,
            z2,
            z3,
            p0,
            p1,
            p2,
            p3,
            f0,
            f1,
        ] = bytes.first_chunk::<{ HEADER_LEN as usize }>()?;
        Some(Self {
            timestamp: u32::from_le_bytes([t0, t1, t2, t3]),
            type_code: EventType(code),
            server_id: u32::from_le_bytes([s0, s1, s2, s3]),
            event_size: u32::from_le_bytes([z0, z1, z2, z3]),
            log_pos: u32::from_le_bytes([p0, p1, p2, p3]),
            flags: u16::from_le_bytes([f0, f1]),
        })
    }

    /// The 19 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN as usize] {
        let mut out = [0; HEADER_LEN as usize];
        let fields = self
            .timestamp
            .to_le_bytes()
            .into_iter()
            .chain([self.type_code.0])
            .chain(self.server_id.to_le_bytes())
            .chain(self.event_size.to_le_bytes())
            .chain(self.log_pos.to_le_bytes())
            .chain(self.flags.to_le_bytes());
        for (slot, byte) in out.iter_mut().zip(fields) {
            *slot = byte;
        }
        out
    }

    /// True if a flag is set.
    #[must_use]
    pub fn has_flag(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_round_trip() {
        let header = EventHeader {
            timestamp: 0x6b02_b9ce,
            type_code: EventType::QUERY,
            server_id: 7,
            event_size: 91,
            log_pos: 0xffff_fff0,
            flags: 0x0841,
        };
        assert_eq!(EventHeader::parse(&header.to_bytes()), Some(header));
        assert_eq!(EventHeader::parse(&header.to_bytes()[..18]), None);
    }
}
