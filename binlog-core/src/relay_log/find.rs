//! Where a reader of relay logs has to start: at the first event of the primary, not at the replica's own that may stand
//! before it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::RelayLogs;
use crate::error::LogError;
use crate::event::{EventHeader, EventType, FLAG_ARTIFICIAL, FLAG_RELAY_LOG, HEADER_LEN};
use crate::extent::Located;
use crate::map::Join;
use crate::position::{BinlogPosition, RelayPosition, StreamRange};

impl RelayLogs {
    /// The first event of the primary at or after `target`, which may be inside a transaction; where nothing follows,
    /// the place after the last event.
    ///
    /// # Errors
    /// As [`Self::locate`]; [`LogError::Hole`] where the events from `target` on are missing and later ones are held.
    pub fn first_event(&self, target: &BinlogPosition) -> Result<Located, LogError> {
        let located = match self.locate(target) {
            Err(error @ LogError::NotHeld { .. }) => {
                return Err(self.hole_at(target)?.unwrap_or(error));
            }
            located => located?,
        };
        if self.stands_at(&located.position, target)? {
            return Ok(located);
        }
        // Told without a walk: nothing is held behind it, not even beyond a hole.
        if located.at_end && self.map.get().is_none() {
            return Ok(located);
        }
        // The replica's own events, or another relay log, are in between.
        if let Some(hole) = self.hole_at(target)? {
            return Err(hole);
        }
        let map = self.map()?;
        let place = map.find(target)?;
        let Some(piece) = map.pieces.get(place.piece).filter(|_| !map.at_end(place)) else {
            return Ok(located);
        };
        let offset = map.physical(piece, place.offset)?;
        let position = self
            .files
            .get(piece.source)
            .map(|(file, _)| RelayPosition::new(file.clone(), offset));
        Ok(Located {
            position: position.unwrap_or(located.position),
            at_end: false,
        })
    }

    /// The hole that `position` is inside of or at the start of.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn hole_at(&self, position: &BinlogPosition) -> Result<Option<LogError>, LogError> {
        let map = self.map()?;
        for pair in map.pieces.windows(2) {
            if let [before, after] = pair
                && after.join == Join::Broken
                && before.end() <= *position
                && *position < after.start()
            {
                return Ok(Some(LogError::Hole {
                    missing: StreamRange::new(before.end(), after.start()),
                    path: map.source(after.source).to_owned(),
                    offset: after.at,
                }));
            }
        }
        Ok(None)
    }

    /// True if an event of the primary that starts at `target` stands at `place`: the usual case, told by its header.
    #[allow(clippy::cast_possible_truncation)]
    fn stands_at(&self, place: &RelayPosition, target: &BinlogPosition) -> Result<bool, LogError> {
        let Some((_, path)) = self.files.iter().find(|(name, _)| *name == place.file) else {
            return Ok(false);
        };
        let file = File::open(path).map_err(LogError::io("open", path))?;
        let mut bytes = [0; HEADER_LEN as usize];
        if file.read_exact_at(&mut bytes, place.offset).is_err() {
            return Ok(false);
        }
        let Some(header) = EventHeader::parse(&bytes) else {
            return Ok(false);
        };
        let framing = matches!(
            header.type_code,
            EventType::FORMAT_DESCRIPTION | EventType::ROTATE | EventType::STOP
        );
        Ok(!framing
            && !header.has_flag(FLAG_RELAY_LOG)
            && !header.has_flag(FLAG_ARTIFICIAL)
            && header.log_pos != 0
            && header.log_pos.wrapping_sub(header.event_size) == target.offset as u32)
    }
}
