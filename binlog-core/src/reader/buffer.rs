//! The one buffer of a walk: filled by positioned reads, and given away whole to whoever wants the bytes of many events
//! at once without a copy of each.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::{EventReader, HEAD, INLINE_MAX};
use crate::error::LogError;

impl EventReader {
    /// Up to `len` bytes (at most [`INLINE_MAX`]) from `offset`, whatever they are; fewer at the end of the file.
    pub(crate) fn peek(&mut self, offset: u64, len: usize) -> Result<&[u8], LogError> {
        self.fill(offset, len)
    }

    /// Gives the buffer away in exchange for another one, whatever that holds, and says where in it `bytes` of the file
    /// are: those of events that were lent since [`Self::step`] was last called. Fewer are in it if they are not.
    pub(crate) fn exchange(
        &mut self,
        bytes: Range<u64>,
        other: Vec<u8>,
    ) -> (Vec<u8>, Range<usize>) {
        let within = |offset: u64| {
            let skip = offset.saturating_sub(self.start);
            usize::try_from(skip).map_or(self.filled, |skip| skip.min(self.filled))
        };
        let range = within(bytes.start)..within(bytes.end);
        self.start = self.next;
        self.filled = 0;
        (std::mem::replace(&mut self.buffer, other), range)
    }

    /// `len` bytes (at most [`INLINE_MAX`]) from `offset`; fewer only at the end of the file.
    pub(super) fn fill(&mut self, offset: u64, len: usize) -> Result<&[u8], LogError> {
        let len = len.min(INLINE_MAX);
        let inside = offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip.checked_add(len).is_some_and(|end| end <= self.filled));
        let skip = match inside {
            Some(skip) => skip,
            None => {
                self.refill(offset, len)?;
                0
            }
        };
        let end = (skip + len).min(self.filled);
        Ok(self.buffer.get(skip..end).unwrap_or_default())
    }

    fn refill(&mut self, offset: u64, len: usize) -> Result<(), LogError> {
        let rest = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let block = if offset == 0 { HEAD } else { self.block };
        let want = rest.min(len.max(block));
        if self.buffer.len() < want {
            self.buffer.resize(want, 0);
        }
        self.start = offset;
        self.filled = 0;
        self.proven = 0;
        while self.filled < want {
            let Some(target) = self.buffer.get_mut(self.filled..want) else {
                break;
            };
            match self.file.read_at(target, offset + self.filled as u64) {
                Ok(0) => break,
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LogError::io("read", &self.path)(e)),
            }
        }
        Ok(())
    }
}
