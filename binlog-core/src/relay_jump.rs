//! Finds a place in relay logs without walking them.
//!
//! Between two local events the offset in a relay log and the offset in the primary's file differ by a constant. So the heads of the
//! files tell where each begins in the primary's stream, and arithmetic where a target must be:
//!
//! 1. **Heads**, from the newest file back until one states a place before the target. A file whose head states none goes
//!    on where the one before it ended: believed only if the length of that file says exactly so, and the first event here too.
//! 2. **The file**: the newest one that begins before the target. Newer ones must all begin at the target or behind it
//!    (what is newer wins, see `keep_current`), and nothing may speak of another primary or another file of the same name.
//! 3. **The landing**, proven in three ways: a chain of events that leads up to the target, found by looking for headers
//!    that stand where they say; the target, which must be a boundary in that chain; and the events behind it. Each must follow the one
//!    before it and have a right checksum; without checksums more of them are asked for.
//!
//! Whatever is not proven is left to others: first to a walk of the one file (MariaDB does not store Annotate_rows, so that
//! offsets there differ by no constant), then to the walk of all files. A jump answers as that walk would: where it says that
//! nothing follows, that takes a proof of its own (see `end`); a place inside an event is refused as the walk refuses it, for the
//! chain holds that event whole and nothing newer begins inside it. It does not answer of a file whose format description
//! is gone (nothing can be cut of that, so it is not held). It does not look at what lies
//! elsewhere, so it does not see damage there; every cut does. And it takes for granted what receivers do: they open a new relay log
//! for each connection, so that a source states positions at heads only.

mod chain;
mod end;
mod head;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::end::LogEnd;
use crate::error::LogError;
use crate::event::{EventType, FIRST_EVENT, HEADER_LEN};
use crate::extent::Located;
use crate::map::Join;
use crate::position::{BinlogPosition, RelayFileName, RelayPosition, ServerId};
use crate::reader::{EventReader, FileEnd, Step};
use crate::relay_walk::{Kind, RelayWalk, classify};

use self::chain::{Chain, Landing};
use self::head::{Head, consistent};

/// What is to be found, and in what.
#[derive(Debug)]
pub(crate) struct Jump<'a> {
    pub(crate) files: &'a [(RelayFileName, PathBuf)],
    pub(crate) owner: ServerId,
    pub(crate) latest: Option<&'a BinlogPosition>,
    pub(crate) target: &'a BinlogPosition,
}

impl Jump<'_> {
    /// `None` if nothing could be proven.
    ///
    /// # Errors
    /// [`LogError::NotABoundary`] for a target that is proven to lie inside an event; an unreadable file.
    pub(crate) fn locate(&self) -> Result<Option<Located>, LogError> {
        let heads = self.heads(false)?;
        if !consistent(&heads) {
            return Ok(None);
        }
        let before = heads.iter().rposition(|head| {
            head.start.as_ref().is_some_and(|start| {
                start.file == self.target.file && start.offset < self.target.offset
            })
        });
        let rest = match before {
            Some(i) => heads.get(i + 1..),
            None => Some(&heads[..]),
        };
        let rest = rest.unwrap_or_default();
        // Every newer file begins at the target or behind it, or holds nothing. (Those before the file, or where none begins
        // before the target in its own primary file, before the first such one, do not matter, but must be known.)
        let at_or_behind = |head: &Head| {
            head.bare
                || head
                    .start
                    .as_ref()
                    .is_some_and(|start| start >= self.target)
        };
        let older = |head: &&Head| {
            before.is_none()
                && (head.bare || head.start.as_ref().is_some_and(|start| start < self.target))
        };
        if !rest.iter().skip_while(older).all(at_or_behind) {
            return Ok(None);
        }
        let more = rest.iter().any(|head| head.has_data);
        let located = match before.and_then(|i| heads.get(i)) {
            // Whether a lone format description or Rotate counts as held depends on what else is. Nothing can be cut of a file
            // whose description is gone, so the walk does not hold it.
            Some(head) if !head.has_data || head.format.is_none() => return Ok(None),
            Some(head) => match self.land(head, rest)? {
                Some(located) => Some(located),
                None => self.walk_one(head, more)?.filter(|located| !located.at_end),
            },
            None => self.at_head(&heads)?,
        };
        Ok(located)
    }

    /// The heads that matter (or `all`), oldest first, with all starts that can be concluded.
    fn heads(&self, all: bool) -> Result<Vec<Head>, LogError> {
        let mut heads = Vec::new();
        for (source, (_, path)) in self.files.iter().enumerate().rev() {
            let head = Head::read(source, path, self.owner)?;
            let enough = head.start.as_ref().is_some_and(|at| at < self.target);
            heads.push(head);
            if enough && !all {
                break;
            }
        }
        heads.reverse();
        // What the receiver has read is where the newest file ends, if nothing else names a file and the lengths agree.
        let unnamed = heads
            .iter()
            .all(|head| head.stated.is_none() && head.rotate_to.is_none());
        if let (Some(head), Some(latest)) = (heads.last_mut(), self.latest.filter(|_| unnamed))
            && head.start.is_none()
            && !head.odd
            && let Some((at, start)) = head.first
        {
            let offset = latest.offset.checked_sub(head.size.saturating_sub(at));
            head.start = offset
                .filter(|&offset| low(offset) == start && offset >= FIRST_EVENT)
                .map(|offset| BinlogPosition::new(latest.file.clone(), offset));
        }
        for i in 1..heads.len() {
            let end = match heads.get(i - 1) {
                Some(before) => self.end_of(before)?,
                None => None,
            };
            if let (Some(head), Some(end)) = (heads.get_mut(i), end)
                && head.start.is_none()
                && head.stated.is_none()
                && !head.odd
                && head.first.is_none_or(|(_, start)| low(end.offset) == start)
            {
                head.start = Some(end);
            }
        }
        for i in (1..heads.len()).rev() {
            let Some(length) = heads.get(i - 1).map(|head| self.length(head)).transpose()? else {
                continue;
            };
            let next = heads.get(i).filter(|next| next.stated.is_none());
            let end = next.and_then(|next| next.start.clone());
            if let (Some(head), Some(end), Some(length)) = (heads.get_mut(i - 1), end, length)
                && head.start.is_none()
                && head.stated.is_none()
                && head.rotate_to.is_none()
                && let Some((_, start)) = head.first
                && let Some(offset) = end.offset.checked_sub(length)
                && offset >= FIRST_EVENT
                && low(offset) == start
            {
                head.start = Some(BinlogPosition::new(end.file, offset));
            }
        }
        Ok(heads)
    }

    /// Where the stream is at the end of a file, if its length is all events of one primary file.
    fn end_of(&self, head: &Head) -> Result<Option<BinlogPosition>, LogError> {
        if head.rotate_to.is_some() {
            return Ok(head.rotate_to.clone());
        }
        let Some(start) = &head.start else {
            return Ok(None);
        };
        let length = self.length(head)?;
        Ok(length.map(|length| BinlogPosition::new(start.file.clone(), start.offset + length)))
    }

    /// Bytes from the first event to the replica's own Rotate to the next file, or to its Stop, that closes the file.
    fn length(&self, head: &Head) -> Result<Option<u64>, LogError> {
        let Some((first, _)) = head.first else {
            return Ok(Some(0));
        };
        let closing = self.closing(head)?.unwrap_or(head.size);
        Ok(closing.checked_sub(first))
    }

    fn closing(&self, head: &Head) -> Result<Option<u64>, LogError> {
        let Some((name, _)) = self.files.get(head.source + 1) else {
            return Ok(None);
        };
        let Some((_, path)) = self.files.get(head.source) else {
            return Ok(None);
        };
        let bare = u64::from(HEADER_LEN + head.checksum.len());
        let rotates = bare + 8 + name.as_str().len() as u64;
        for length in [rotates, bare] {
            let Some(at) = head
                .size
                .checked_sub(length)
                .filter(|&at| at >= FIRST_EVENT)
            else {
                continue;
            };
            let mut reader = EventReader::open(path)?;
            reader.seek(at, head.checksum);
            if let Step::Event(event) = reader.step()?
                && event.end() == head.size
                && matches!(event.type_code(), EventType::ROTATE | EventType::STOP)
                && classify(&event, self.owner, None) == Kind::Local
            {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The target in the file that begins before it; `rest` are the heads of those behind.
    fn land(&self, head: &Head, rest: &[Head]) -> Result<Option<Located>, LogError> {
        let (Some((first, _)), Some(start), Some((name, _))) =
            (head.first, &head.start, self.files.get(head.source))
        else {
            return Ok(None);
        };
        let landing = first + (self.target.offset - start.offset);
        let Some(found) = self.chain(head, (start.offset, first), landing)? else {
            return Ok(None);
        };
        if let Some((from, to)) = found.inside {
            return self.refuse(start, (from - first, to - first), rest);
        }
        let more = rest.iter().any(|head| head.has_data);
        let at_end = found.at_end && !more;
        if at_end && !(self.is_silent(rest) && self.is_furthest(head)?) {
            return Ok(None);
        }
        Ok(Some(Located {
            position: RelayPosition::new(name.clone(), landing),
            at_end,
        }))
    }

    /// What a chain of events says of `landing`. `shift`: a place in the primary's file and the same one in the relay log.
    fn chain(
        &self,
        head: &Head,
        shift: (u64, u64),
        landing: u64,
    ) -> Result<Option<Landing>, LogError> {
        let Some((_, path)) = self.files.get(head.source) else {
            return Ok(None);
        };
        if landing > head.size {
            return Ok(None);
        }
        let mut chain = Chain {
            reader: EventReader::open(path)?,
            owner: self.owner,
            checksum: head.checksum,
            shift,
        };
        chain.find(landing)
    }

    /// No boundary: the event `from..to` behind `start` holds it. Nothing, if what is newer begins inside that event: then
    /// nothing of it is held.
    fn refuse(
        &self,
        start: &BinlogPosition,
        (from, to): (u64, u64),
        rest: &[Head],
    ) -> Result<Option<Located>, LogError> {
        let at = |past: u64| BinlogPosition::new(start.file.clone(), start.offset + past);
        let after = at(to);
        let behind = |head: &Head| head.start.as_ref().is_none_or(|start| *start >= after);
        if !rest.iter().all(behind) {
            return Ok(None);
        }
        Err(LogError::NotABoundary {
            position: self.target.clone(),
            before: at(from),
            after,
        })
    }

    /// The target is where a file begins and no event ends: the start of a primary file, or of everything.
    fn at_head(&self, heads: &[Head]) -> Result<Option<Located>, LogError> {
        let mut there = heads
            .iter()
            .filter(|head| head.start.as_ref() == Some(self.target));
        let (Some(head), None) = (there.next(), there.next()) else {
            return Ok(None);
        };
        let (Some((first, _)), Some((name, _))) = (head.first, self.files.get(head.source)) else {
            return Ok(None);
        };
        let oldest = heads.first().is_some_and(|head| head.source == 0)
            && heads
                .iter()
                .all(|other| other.first.is_none() || other.source >= head.source);
        if !head.has_data
            || head.rotate_to.is_some()
            || (self.target.offset != FIRST_EVENT && !oldest)
        {
            return Ok(None);
        }
        let found = self.chain(head, (self.target.offset, first), first)?;
        Ok(found.map(|_| Located {
            position: RelayPosition::new(name.clone(), first),
            at_end: false,
        }))
    }

    /// Walks the one file that holds the target, if any does.
    fn walk_one(&self, head: &Head, more: bool) -> Result<Option<Located>, LogError> {
        let (Some(start), Some((name, path))) = (&head.start, self.files.get(head.source)) else {
            return Ok(None);
        };
        let mut walk = RelayWalk::new(self.owner, None);
        if head.stated.is_none() {
            walk.builder
                .go_to(start.clone(), Join::Broken, head.source, FIRST_EVENT);
        }
        let mut reader = EventReader::open(path)?;
        reader.read_ahead();
        let end = loop {
            match reader.step()? {
                Step::Event(event) => walk.feed(&event, head.source),
                Step::End(end) => break end,
            }
        };
        if !matches!(end, FileEnd::Boundary) {
            return Ok(None);
        }
        let sources = self.files.iter().map(|(_, path)| path.clone()).collect();
        let end = LogEnd::InUse {
            file: name.to_string(),
            offset: reader.offset(),
        };
        let map = walk.builder.finish(sources, end, reader.offset());
        let holds = map.pieces.iter().find(|piece| {
            piece.file == self.target.file
                && piece.from < self.target.offset
                && self.target.offset <= piece.to
        });
        let (Some(piece), false) = (
            holds,
            map.pieces.iter().skip(1).any(|p| p.join == Join::Broken),
        ) else {
            return Ok(None);
        };
        let Ok(place) = map.find(self.target) else {
            return Ok(None);
        };
        Ok(Some(Located {
            position: RelayPosition::new(name.clone(), map.physical(piece, self.target.offset)?),
            at_end: map.at_end(place) && !more,
        }))
    }
}

/// Modulo 2^32, as headers count.
#[allow(clippy::cast_possible_truncation)]
fn low(offset: u64) -> u32 {
    offset as u32
}
