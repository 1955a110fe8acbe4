//! Packets of the client/server protocol: framing, sequence ids, length-encoded values.
//!
//! A payload travels in packets of a 3-byte length, a sequence id, and up to 0xFFFFFF bytes; a payload of exactly
//! that size or more goes on in further packets and ends with a shorter one (possibly empty). Everything read
//! here comes from a peer: nothing panics, and nothing is allocated from a length that was not bounded first.

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Most payload bytes of one packet; a full packet announces another one.
pub(super) const MAX_PACKET_PAYLOAD: usize = 0xFF_FFFF;

/// What is wrong with the bytes of a peer.
#[derive(Debug, Error)]
pub(super) enum PacketError {
    /// The connection broke, or ended inside a packet.
    #[error("connection broken while a packet was read")]
    Io(#[source] std::io::Error),
    /// Sequence ids must follow each other.
    #[error("packet out of order: expected sequence id {expected}, found {found}")]
    OutOfOrder {
        /// Id that was due.
        expected: u8,
        /// Id that came.
        found: u8,
    },
    /// Larger than anything a replica has to say.
    #[error("packet of more than {limit} bytes")]
    TooLarge {
        /// Bytes allowed for one payload.
        limit: usize,
    },
}

/// Reads one payload of at most `limit` bytes. `sequence` is the id due next, and is left at the one to answer
/// with. `None` is an orderly end of the connection, between packets.
pub(super) async fn read_payload<R: AsyncRead + Unpin>(
    reader: &mut R,
    sequence: &mut u8,
    limit: usize,
) -> Result<Option<Vec<u8>>, PacketError> {
    let mut payload = Vec::new();
    let mut first = true;
    loop {
        let mut header = [0u8; 4];
        if first {
            let read = reader
                .read(&mut header[..1])
                .await
                .map_err(PacketError::Io)?;
            if read == 0 {
                return Ok(None);
            }
            reader
                .read_exact(&mut header[1..])
                .await
                .map_err(PacketError::Io)?;
            first = false;
        } else {
            reader
                .read_exact(&mut header)
                .await
                .map_err(PacketError::Io)?;
        }
        let length =
            usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
        if header[3] != *sequence {
            return Err(PacketError::OutOfOrder {
                expected: *sequence,
                found: header[3],
            });
        }
        *sequence = sequence.wrapping_add(1);
        let start = payload.len();
        let end = start.saturating_add(length);
        if end > limit {
            return Err(PacketError::TooLarge { limit });
        }
        payload.resize(end, 0);
        reader
            .read_exact(&mut payload[start..])
            .await
            .map_err(PacketError::Io)?;
        if length < MAX_PACKET_PAYLOAD {
            return Ok(Some(payload));
        }
    }
}

/// More or fewer bytes were handed over than announced.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("payload announced with {announced} bytes does not match what was handed over")]
pub(super) struct PayloadMismatch {
    /// Size given to [`PayloadFramer::begin`].
    pub(super) announced: u64,
}

/// Frames one payload whose size is known before its bytes are: large events pass through in blocks.
#[derive(Debug)]
pub(super) struct PayloadFramer {
    announced: u64,
    remaining: u64,
    packet_left: usize,
    sequence: u8,
    closing_packet_due: bool,
    begun: bool,
}

impl PayloadFramer {
    /// A payload of `total` bytes whose first packet has the id `sequence`.
    pub(super) fn begin(sequence: u8, total: u64) -> Self {
        Self {
            announced: total,
            remaining: total,
            packet_left: 0,
            sequence,
            closing_packet_due: false,
            begun: false,
        }
    }

    /// Appends `piece` to `out`, with packet headers where they are due.
    pub(super) fn push(
        &mut self,
        mut piece: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), PayloadMismatch> {
        while !piece.is_empty() {
            if self.packet_left == 0 {
                if self.remaining == 0 {
                    return Err(self.mismatch());
                }
                self.header(out);
            }
            let (now, later) = piece.split_at(piece.len().min(self.packet_left));
            out.extend_from_slice(now);
            self.packet_left -= now.len();
            self.remaining -= now.len() as u64;
            piece = later;
        }
        Ok(())
    }

    /// All announced bytes were handed over.
    pub(super) fn is_complete(&self) -> bool {
        self.remaining == 0
    }

    /// Ends the payload; returns the sequence id of the next one.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<u8, PayloadMismatch> {
        if self.remaining != 0 {
            return Err(self.mismatch());
        }
        if !self.begun || self.closing_packet_due {
            self.header(out);
        }
        Ok(self.sequence)
    }

    fn header(&mut self, out: &mut Vec<u8>) {
        let length = usize::try_from(self.remaining)
            .unwrap_or(MAX_PACKET_PAYLOAD)
            .min(MAX_PACKET_PAYLOAD);
        out.extend_from_slice(&[
            (length & 0xff) as u8,
            (length >> 8 & 0xff) as u8,
            (length >> 16 & 0xff) as u8,
            self.sequence,
        ]);
        self.sequence = self.sequence.wrapping_add(1);
        self.packet_left = length;
        self.closing_packet_due = length == MAX_PACKET_PAYLOAD;
        self.begun = true;
    }

    fn mismatch(&self) -> PayloadMismatch {
        PayloadMismatch {
            announced: self.announced,
        }
    }
}

/// Appends one whole payload to `out`; returns the next sequence id.
pub(super) fn frame(payload: &[u8], sequence: u8, out: &mut Vec<u8>) -> u8 {
    let mut framer = PayloadFramer::begin(sequence, payload.len() as u64);
    // Announced and handed over are the same slice, so neither call can refuse.
    if framer.push(payload, out).is_err() {
        return sequence;
    }
    framer.finish(out).unwrap_or(sequence)
}

/// Appends a length-encoded integer.
pub(super) fn put_lenenc_int(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    match value {
        0..=0xfa => out.push(bytes[0]),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&bytes[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a length-encoded string.
pub(super) fn put_lenenc_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_lenenc_int(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Reads fields off the front of a payload; `None` when it is too short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// All of `payload`.
    pub(super) fn of(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Two bytes, little endian.
    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Four bytes, little endian.
    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A length-encoded integer; the NULL marker 0xfb and 0xff are none.
    pub(super) fn lenenc_int(&mut self) -> Option<u64> {
        let width = match self.u8()? {
            small @ 0..=0xfa => return Some(u64::from(small)),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            _ => return None,
        };
        let mut wide = [0u8; 8];
        wide.get_mut(..width)?.copy_from_slice(self.take(width)?);
        Some(u64::from_le_bytes(wide))
    }

    /// A length-encoded string.
    pub(super) fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.lenenc_int()?).ok()?;
        self.take(length)
    }

    /// Bytes up to a NUL, which is consumed.
    pub(super) fn nul_terminated(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }

    /// What is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn read_all(mut wire: &[u8], sequence: &mut u8) -> Vec<u8> {
        let payload = read_payload(&mut wire, sequence, usize::MAX)
            .await
            .unwrap()
            .unwrap();
        assert!(wire.is_empty(), "bytes left over after the payload");
        payload
    }

    #[tokio::test]
    async fn payloads_around_the_packet_limit_come_back_whole() {
        let limit = MAX_PACKET_PAYLOAD;
        for (size, packets) in [
            (0, 1),
            (1, 1),
            (limit - 1, 1),
            (limit, 2),
            (limit + 1, 2),
            (2 * limit, 3),
            (2 * limit + 7, 3),
        ] {
            let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut wire = Vec::new();
            let mut framer = PayloadFramer::begin(254, size as u64);
            for piece in payload.chunks(1_000_003) {
                framer.push(piece, &mut wire).unwrap();
            }
            let next = framer.finish(&mut wire).unwrap();
            assert_eq!(wire.len(), size + 4 * packets, "size {size}");
            assert_eq!(next, 254u8.wrapping_add(packets as u8), "size {size}");
            let mut sequence = 254;
            assert!(
                read_all(&wire, &mut sequence).await == payload,
                "size {size}"
            );
            assert_eq!(sequence, next);
        }
    }

    #[test]
    fn a_framer_refuses_more_and_less_than_announced() {
        let mut out = Vec::new();
        let mut framer = PayloadFramer::begin(0, 3);
        assert_eq!(
            framer.push(b"four", &mut out),
            Err(PayloadMismatch { announced: 3 })
        );
        let mut framer = PayloadFramer::begin(0, 3);
        framer.push(b"ab", &mut out).unwrap();
        assert_eq!(
            framer.finish(&mut out),
            Err(PayloadMismatch { announced: 3 })
        );
    }

    #[tokio::test]
    async fn sequence_ids_and_sizes_are_checked() {
        let mut wire = Vec::new();
        frame(b"x", 3, &mut wire);
        let found = read_payload(&mut wire.as_slice(), &mut 0, 100).await;
        assert!(matches!(
            found,
            Err(PacketError::OutOfOrder {
                expected: 0,
                found: 3
            })
        ));
        let mut wire = Vec::new();
        frame(&[0; 101], 0, &mut wire);
        let found = read_payload(&mut wire.as_slice(), &mut 0, 100).await;
        assert!(matches!(found, Err(PacketError::TooLarge { limit: 100 })));
        let ended = read_payload(&mut [].as_slice(), &mut 0, 100).await;
        assert!(matches!(ended, Ok(None)));
        let torn = read_payload(&mut [5u8, 0].as_slice(), &mut 0, 100).await;
        assert!(matches!(torn, Err(PacketError::Io(_))));
    }

    proptest! {
        #[test]
        fn length_encoded_integers_come_back(value in prop_oneof![any::<u64>(), 0u64..0x2_0000, 0xff_ff00u64..0x100_0100]) {
            let mut out = Vec::new();
            put_lenenc_int(&mut out, value);
            let mut fields = Fields::of(&out);
            prop_assert_eq!(fields.lenenc_int(), Some(value));
            prop_assert!(fields.rest().is_empty());
        }

        #[test]
        fn length_encoded_strings_come_back(value in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut out = Vec::new();
            put_lenenc_bytes(&mut out, &value);
            prop_assert_eq!(Fields::of(&out).lenenc_bytes(), Some(value.as_slice()));
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut fields = Fields::of(&bytes);
            while fields.lenenc_bytes().is_some() && !fields.rest().is_empty() {}
            prop_assert!(fields.rest().len() <= bytes.len());
        }
    }
}
