//! A step that finds no ordinary event in the buffer: at the edge of it, at a format description, at a large event, or at the
//! end of the file, which is classified here.

use super::event::{FileEnd, RawEvent, Step, corrupt, torn};
use super::{EVENT_MAX, EventReader, INLINE_MAX};
use crate::error::LogError;
use crate::event::{EventHeader, EventType, HEADER_LEN};

impl EventReader {
    /// The next event, verified, or how the file ends; the first part of an event over 1 MiB.
    pub(super) fn step_slowly(&mut self) -> Result<Step<'_>, LogError> {
        if let Some(end) = &self.end {
            return Ok(Step::End(end.clone()));
        }
        let offset = self.next;
        let header = match self.read_header(offset)? {
            Ok(header) => header,
            Err(end) => return Ok(Step::End(self.ended(end))),
        };
        let size = header.event_size as usize;
        let checksum;
        if header.type_code == EventType::FORMAT_DESCRIPTION {
            match self.read_format_description(offset, header)? {
                Ok(has_checksum) => checksum = has_checksum,
                Err(end) => return Ok(Step::End(self.ended(end))),
            }
        } else {
            if !self.described {
                let end = corrupt(
                    offset,
                    "a FORMAT_DESCRIPTION_EVENT",
                    format!("{}", header.type_code),
                );
                return Ok(Step::End(self.ended(end)));
            }
            checksum = self.checksum;
            if let Some(end) = self.verify(offset, header)? {
                return Ok(Step::End(self.ended(end)));
            }
        }
        if header.type_code == EventType::MARIADB_START_ENCRYPTION {
            return Err(LogError::Encrypted {
                path: self.path.clone(),
                offset,
            });
        }
        self.next = offset + u64::from(header.event_size);
        let header = self.group.pass(header);
        let bytes = self.fill(offset, size.min(INLINE_MAX))?;
        Ok(Step::Event(RawEvent {
            offset,
            header,
            bytes,
            checksum,
        }))
    }

    fn ended(&mut self, end: FileEnd) -> FileEnd {
        self.end = Some(end.clone());
        end
    }

    /// A header whose event lies inside the file, or how the file ends.
    fn read_header(&mut self, offset: u64) -> Result<Result<EventHeader, FileEnd>, LogError> {
        let rest = self.size.saturating_sub(offset);
        if rest == 0 {
            return Ok(Err(FileEnd::Boundary));
        }
        let bytes = self.fill(offset, HEADER_LEN as usize)?;
        let Some(header) = EventHeader::parse(bytes) else {
            return Ok(Err(torn(
                offset,
                format!("{rest} of 19 bytes of an event header"),
            )));
        };
        let size = header.event_size;
        if size < HEADER_LEN {
            // A crash of the machine can leave zeros where the data never reached the disk.
            if self.only_zeros(offset)? {
                return Ok(Err(torn(offset, format!("{rest} zero bytes"))));
            }
            return Ok(Err(corrupt(
                offset,
                "an event of at least 19 bytes",
                format!("length {size}"),
            )));
        }
        if size > EVENT_MAX {
            return Ok(Err(corrupt(
                offset,
                "an event of at most 1 GiB",
                format!("length {size}"),
            )));
        }
        if u64::from(size) > rest {
            self.cut_off = Some(self.group.pass(header));
            return Ok(Err(torn(
                offset,
                format!("{rest} of {size} bytes of a {}", header.type_code),
            )));
        }
        Ok(Ok(header))
    }

    fn only_zeros(&mut self, mut offset: u64) -> Result<bool, LogError> {
        while offset < self.size {
            let bytes = self.fill(offset, 1)?;
            if bytes.is_empty() {
                break;
            }
            let len = bytes.len() as u64;
            if bytes.iter().any(|&b| b != 0) {
                return Ok(false);
            }
            offset += len;
            // `fill` lends no more than asked for; go on with the whole buffer.
            let (start, filled) = (self.start, self.filled);
            let end = start + filled as u64;
            if end > offset {
                let skip = usize::try_from(offset - start).unwrap_or(filled);
                if self
                    .buffer
                    .get(skip..filled)
                    .is_some_and(|rest| rest.iter().any(|&b| b != 0))
                {
                    return Ok(false);
                }
                offset = end;
            }
        }
        Ok(true)
    }
}
