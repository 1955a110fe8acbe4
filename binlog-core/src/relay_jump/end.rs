//! Whether the target is the end of all that is held.
//!
//! Who is told that nothing follows asks no further, so this is claimed only where the walk of all files must say the same. The
//! argument, for a target at which the events of one file end, and behind which that file holds nothing:
//!
//! 1. No newer file holds anything ([`Jump::is_silent`]): each holds only the replica's own events and repeated descriptions, or
//!    states the target itself and holds nothing.
//! 2. So the target is the end of the newest run of events that the walk finds, and its file begins with more than a description or a
//!    Rotate. What is newer wins: of all other runs that hold data, the walk keeps only what is before that run.
//! 3. What remains are places that a receiver reached earlier without receiving data there (a Rotate, a format
//!    description). The walk keeps those that are further on than everything else. No older file went there
//!    ([`Jump::is_furthest`]): inside of a file the stream never goes back, since only a head states a position; so the furthest place of
//!    a file is where it ends, and a chain of events that leads up to that end proves where that is. It must not be behind the
//!    target, for each older file.
//!
//! Whatever is not proven (a file that is damaged, whose start is not known, whose offsets differ by no constant) is left to the walk.

use crate::error::LogError;
use crate::position::BinlogPosition;

use super::Jump;
use super::head::{Head, consistent};

impl Jump<'_> {
    /// Nothing of the stream is in any of these files, and they say that it is at the target, if anything.
    pub(super) fn is_silent(&self, newer: &[Head]) -> bool {
        newer
            .iter()
            .all(|head| head.bare || (head.over && head.stated.as_ref() == Some(self.target)))
    }

    /// No file older than that of `landing` leads beyond the target.
    pub(super) fn is_furthest(&self, landing: &Head) -> Result<bool, LogError> {
        let heads = self.heads(true)?;
        let same = |head: &&Head| head.source == landing.source;
        if !consistent(&heads)
            || heads.iter().find(same).map(|head| &head.start) != Some(&landing.start)
        {
            return Ok(false);
        }
        for head in heads.iter().take_while(|head| head.source < landing.source) {
            if head.bare {
                continue;
            }
            let reached = self.reached(head)?;
            if reached.is_none_or(|reached| reached > *self.target) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where the stream is at the end of a file, proven by the events that lead there.
    fn reached(&self, head: &Head) -> Result<Option<BinlogPosition>, LogError> {
        let Some(start) = head.start.as_ref().filter(|_| !head.odd) else {
            return Ok(None);
        };
        let Some((first, _)) = head.first else {
            return Ok(Some(start.clone()).filter(|_| head.over));
        };
        let Some(length) = self.length(head)? else {
            return Ok(None);
        };
        let Some(found) = self.chain(head, (start.offset, first), first + length)? else {
            return Ok(None);
        };
        if found.inside.is_some() || !found.at_end {
            return Ok(None);
        }
        let here = || BinlogPosition::new(start.file.clone(), start.offset + length);
        Ok(Some(found.rotates_to.unwrap_or_else(here)))
    }
}
