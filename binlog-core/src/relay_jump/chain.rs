//! Events around a landing, each behind the one before it, proven by their own headers and checksums.

use crate::checksum::ChecksumAlgorithm;
use crate::error::LogError;
use crate::event::{EventHeader, EventType, HEADER_LEN};
use crate::map::ends_at;
use crate::position::{BinlogPosition, ServerId};
use crate::reader::{EventReader, FileEnd, Step};
use crate::relay_walk::{Kind, classify};

/// Bytes before the target in which a chain of events is looked for: at first, and where events are large.
const WINDOWS: [u64; 3] = [64 << 10, 1 << 20, 16 << 20];
/// Bytes looked at together.
const PEEK: u64 = 1 << 20;
/// Headers that prove to be none before the search is given up.
const FALSE_HEADERS_MAX: usize = 64;
/// Events behind the target that must go on as they should.
const FOLLOWING: usize = 8;
/// Events of a chain where no checksum vouches for them.
const CHAIN_UNPROTECTED: usize = 8;

/// What is at a landing.
pub(super) struct Landing {
    /// Where the event starts and ends in the relay log that it is inside of, if it is no boundary.
    pub(super) inside: Option<(u64, u64)>,
    /// No event of the stream follows in this file.
    pub(super) at_end: bool,
    /// The event that ends there is the primary's Rotate to there.
    pub(super) rotates_to: Option<BinlogPosition>,
}

/// Consecutive events of the stream around a landing.
pub(super) struct Chain {
    pub(super) reader: EventReader,
    pub(super) owner: ServerId,
    pub(super) checksum: ChecksumAlgorithm,
    /// A place in the primary's file and the same one in the relay log.
    pub(super) shift: (u64, u64),
}

impl Chain {
    /// Proves what is at `landing`; `None` if it cannot be proven.
    pub(super) fn find(&mut self, landing: u64) -> Result<Option<Landing>, LogError> {
        let first = self.shift.1;
        for window in WINDOWS {
            let from = landing.saturating_sub(window).max(first);
            if from == first {
                return self.follow(first, landing, true);
            }
            let mut at = from;
            for _ in 0..FALSE_HEADERS_MAX {
                let Some(found) = self.candidate(at, landing)? else {
                    break;
                };
                if let Some(landing) = self.follow(found, landing, false)? {
                    return Ok(Some(landing));
                }
                at = found + 1;
            }
        }
        Ok(None)
    }

    /// The end of an event at `offset` of the relay log, by arithmetic modulo 2^32, is what its header says.
    fn fits(&self, header: &EventHeader, offset: u64) -> bool {
        let (primary, relay) = self.shift;
        offset
            .checked_sub(relay)
            .is_some_and(|past| ends_at(header, primary + past + u64::from(header.event_size)))
    }

    /// The next offset from `at` on, before `landing`, at which a header stands that says so itself.
    fn candidate(&mut self, at: u64, landing: u64) -> Result<Option<u64>, LogError> {
        let least = HEADER_LEN + self.checksum.len();
        let header_len = u64::from(HEADER_LEN);
        let (primary, relay) = self.shift;
        let mut at = at;
        while at < landing {
            let len = (landing - at + header_len - 1).min(PEEK);
            let bytes = self
                .reader
                .peek(at, usize::try_from(len).unwrap_or_default())?;
            for (start, window) in (at..).zip(bytes.windows(HEADER_LEN as usize)) {
                let Some(header) = EventHeader::parse(window) else {
                    break;
                };
                let end = start.saturating_sub(relay) + primary + u64::from(header.event_size);
                if header.event_size >= least && ends_at(&header, end) {
                    return Ok(Some(start));
                }
            }
            if (bytes.len() as u64) < len {
                break;
            }
            at += len - (header_len - 1);
        }
        Ok(None)
    }

    /// Follows the events from `from` over `landing` and a few more. `known`: an event begins at `from` for certain.
    fn follow(
        &mut self,
        from: u64,
        landing: u64,
        known: bool,
    ) -> Result<Option<Landing>, LogError> {
        self.reader.seek(from, self.checksum);
        let mut inside = None;
        let mut rotates_to = None;
        let mut reached = from;
        let mut links = 0;
        let mut following = 0;
        let at_end = loop {
            let at = self.reader.offset();
            if at >= landing && following >= FOLLOWING {
                break false;
            }
            let event = match self.reader.step()? {
                Step::Event(event) => event,
                Step::End(FileEnd::Boundary) => break following == 0,
                Step::End(FileEnd::Corrupt { .. }) => return Ok(None),
                Step::End(FileEnd::Torn { .. }) => {
                    // A damaged length looks like a cut, but does not agree with the place in the header.
                    let header = self.reader.cut_off().copied();
                    if header.is_some_and(|header| !self.fits(&header, at)) {
                        return Ok(None);
                    }
                    break following == 0;
                }
            };
            let (header, end) = (event.header, event.end());
            let kind = classify(&event, self.owner, None);
            if kind == Kind::Local {
                // The replica closes the file: nothing follows.
                if event.type_code() == EventType::FORMAT_DESCRIPTION {
                    return Ok(None);
                }
                if following == 0 && !self.is_over()? {
                    return Ok(None);
                }
                break following == 0;
            }
            let format = kind == Kind::Format && known && at == from;
            let rotates = matches!(kind, Kind::Rotate { .. });
            if !(kind == Kind::Data || format || rotates) || !self.fits(&header, at) {
                return Ok(None);
            }
            links += 1;
            reached = end;
            if at < landing && landing < end {
                inside = Some((at, end));
            }
            following += usize::from(at >= landing);
            if let Kind::Rotate { to } = kind {
                if end > landing {
                    break false;
                }
                // What follows it is another file's, and stands elsewhere.
                if end < landing {
                    return Ok(None);
                }
                rotates_to = Some(to);
            }
        };
        if reached < landing {
            return Ok(None);
        }
        let least = match self.checksum {
            ChecksumAlgorithm::Crc32 => 1,
            ChecksumAlgorithm::None => CHAIN_UNPROTECTED,
        };
        Ok((known || links >= least).then_some(Landing {
            inside,
            at_end,
            rotates_to,
        }))
    }

    /// No whole event follows, nor a damaged one.
    fn is_over(&mut self) -> Result<bool, LogError> {
        Ok(matches!(
            self.reader.step()?,
            Step::End(FileEnd::Boundary | FileEnd::Torn { .. })
        ))
    }
}
