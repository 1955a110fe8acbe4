//! Whether an event carries the right checksum, and what a format description says of those behind it.

use super::event::{FileEnd, corrupt, torn};
use super::{BUFFER, EventReader, INLINE_MAX};
use crate::checksum::{CHECKSUM_LEN, ChecksumAlgorithm};
use crate::error::LogError;
use crate::event::{EventHeader, FLAG_IN_USE, FormatDescription, HEADER_LEN};

/// Offset of the flags in the header.
const FLAGS_OFFSET: usize = 17;

impl EventReader {
    /// Takes over the setting of a format description; yields whether it has a checksum field itself.
    pub(super) fn read_format_description(
        &mut self,
        offset: u64,
        header: EventHeader,
    ) -> Result<Result<ChecksumAlgorithm, FileEnd>, LogError> {
        let size = header.event_size as usize;
        if size > INLINE_MAX {
            return Ok(Err(corrupt(
                offset,
                "a FORMAT_DESCRIPTION_EVENT of less than 1 MiB",
                format!("length {size}"),
            )));
        }
        let bytes = self.fill(offset, size)?;
        let Some(description) = FormatDescription::parse(bytes) else {
            return Ok(Err(corrupt(
                offset,
                "a FORMAT_DESCRIPTION_EVENT of format 4",
                format!("{size} bytes that are none"),
            )));
        };
        let has_checksum = if description.has_checksum_field {
            ChecksumAlgorithm::Crc32
        } else {
            ChecksumAlgorithm::None
        };
        let verified = description.checksum == ChecksumAlgorithm::Crc32
            || (description.has_checksum_field && !is_sent_without_checksums(bytes, header));
        if verified
            && let Some((stored, computed)) = format_description_checksums(bytes)
            && stored != computed
        {
            return Ok(Err(bad_checksum(offset, header, stored, computed)));
        }
        self.checksum = description.checksum;
        self.described = true;
        Ok(Ok(has_checksum))
    }

    /// Checks the sum of an event that is no format description.
    pub(super) fn verify(
        &mut self,
        offset: u64,
        header: EventHeader,
    ) -> Result<Option<FileEnd>, LogError> {
        if self.checksum == ChecksumAlgorithm::None {
            return Ok(None);
        }
        let size = header.event_size as usize;
        if header.event_size < HEADER_LEN + CHECKSUM_LEN {
            return Ok(Some(corrupt(
                offset,
                "an event with a checksum",
                format!("length {size}"),
            )));
        }
        let (stored, computed) = if size <= INLINE_MAX {
            match crate::checksum::checksums(self.fill(offset, size)?) {
                Some(sums) => sums,
                None => return Ok(Some(torn(offset, format!("less than {size} bytes")))),
            }
        } else {
            self.checksums_in_blocks(offset, size)?
        };
        Ok((stored != computed).then(|| bad_checksum(offset, header, stored, computed)))
    }

    fn checksums_in_blocks(&mut self, offset: u64, size: usize) -> Result<(u32, u32), LogError> {
        let mut hasher = crc32fast::Hasher::new();
        let mut left = size - CHECKSUM_LEN as usize;
        let mut at = offset;
        while left > 0 {
            let block = self.fill(at, left.min(BUFFER))?;
            if block.is_empty() {
                // The file shrank: report a sum that cannot match.
                return Ok((0, !0));
            }
            hasher.update(block);
            left -= block.len();
            at += block.len() as u64;
        }
        let stored = self.fill(at, CHECKSUM_LEN as usize)?;
        let stored = <[u8; 4]>::try_from(stored).map(u32::from_le_bytes);
        let computed = hasher.finalize();
        Ok((stored.unwrap_or(!computed), computed))
    }
}

/// A server writes a right sum into every format description, also where checksums are off. Only a source that sends one
/// with them off zeroes fields without a new sum. Where the sum is right with checksums on, that byte alone is damaged, and
/// believing it would leave all that follows unverified.
fn is_sent_without_checksums(event: &[u8], header: EventHeader) -> bool {
    let mut on = event.to_vec();
    if let Some(algorithm) = on.iter_mut().rev().nth(CHECKSUM_LEN as usize) {
        *algorithm = 1;
    }
    header.log_pos == 0
        && format_description_checksums(&on).is_some_and(|(stored, computed)| stored != computed)
}

/// (stored, computed) sums of a format description: computed with the in-use flag cleared.
fn format_description_checksums(event: &[u8]) -> Option<(u32, u32)> {
    let (content, stored) = event.split_last_chunk::<4>()?;
    let (head, rest) = content.split_at_checked(FLAGS_OFFSET)?;
    let (flags, tail) = rest.split_first_chunk::<2>()?;
    let flags = u16::from_le_bytes(*flags) & !FLAG_IN_USE;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(&flags.to_le_bytes());
    hasher.update(tail);
    Some((u32::from_le_bytes(*stored), hasher.finalize()))
}

fn bad_checksum(offset: u64, header: EventHeader, stored: u32, computed: u32) -> FileEnd {
    corrupt(
        offset,
        format!("a {} with checksum {computed:08x}", header.type_code),
        format!("{stored:08x}"),
    )
}
