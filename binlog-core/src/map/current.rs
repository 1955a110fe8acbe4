//! What of a receiver's past is still to be believed.

use crate::error::LogError;
use crate::position::BinlogPosition;
use crate::transaction::Tracker;

use super::piece::{Join, Piece, Whole};
use super::{Map, Next};

impl Map {
    /// Drops pieces that are not trustworthy any more and keeps the rest in stream order. What is newer wins: where a
    /// receiver started again further back, older pieces count only up to there. Pieces of another primary, or of a file
    /// of the same name that was made at another time (RESET), end what is believed.
    pub(crate) fn keep_current(&mut self) -> Result<(), LogError> {
        let mut runs: Vec<Vec<Piece>> = Vec::new();
        for piece in self.pieces.drain(..) {
            match runs.last_mut() {
                Some(run) if piece.join != Join::Broken => run.push(piece),
                _ => runs.push(vec![piece]),
            }
        }
        let mut identities = std::collections::HashMap::new();
        let mut origin = None;
        let mut floor: Option<BinlogPosition> = None;
        let mut kept: Vec<Vec<Piece>> = Vec::new();
        let mut heads: Vec<Vec<Piece>> = Vec::new();
        for run in runs.into_iter().rev() {
            let stale = run.iter().any(|piece| {
                let other_origin = matches!((origin, piece.origin), (Some(a), Some(b)) if a != b);
                let other_file = piece.format.as_ref().is_some_and(|f| {
                    identities
                        .get(&piece.file)
                        .is_some_and(|&id| id != f.identity())
                });
                other_origin || other_file
            });
            if stale {
                break;
            }
            for piece in &run {
                origin = origin.or(piece.origin);
                if let Some(format) = &piece.format {
                    identities.insert(piece.file.clone(), format.identity());
                }
            }
            if !run.iter().any(|piece| piece.has_data) {
                heads.push(run);
                continue;
            }
            let run = match &floor {
                Some(floor) => self.cut_run(run, floor)?,
                None => run,
            };
            // Of a run that began where a newer one does, the place alone would be left.
            let before = |start: &BinlogPosition| floor.as_ref().is_none_or(|floor| start < floor);
            let Some(start) = run.first().map(Piece::start).filter(before) else {
                continue;
            };
            floor = Some(start);
            kept.push(run);
        }
        // A place without data counts only where nothing else is held.
        for head in heads {
            let (Some(first), Some(last)) = (head.first(), head.last()) else {
                continue;
            };
            let (start, end) = (first.start(), last.end());
            let covered = kept.iter().any(|run| match (run.first(), run.last()) {
                (Some(f), Some(l)) => f.start() <= end && start <= l.end(),
                _ => false,
            });
            if !covered {
                kept.push(head);
                continue;
            }
            // Where in the head what is held ends: from there on the head may continue it.
            let continued = kept.iter().enumerate().find_map(|(run, pieces)| {
                let held = pieces.last()?.end();
                let piece = head.iter().position(|piece| piece.start() == held)?;
                Some((run, piece, held))
            });
            let Some((continued, goes_on, held)) = continued else {
                continue;
            };
            // What is held behind that place is newer.
            let taken = kept.iter().enumerate().any(|(i, run)| {
                i != continued
                    && run
                        .first()
                        .is_some_and(|f| held <= f.start() && f.start() < end)
            });
            if !taken && let Some(run) = kept.get_mut(continued) {
                // The reader of this log stands at its end.
                let mut rest = head.into_iter().skip(goes_on);
                if let Some(mut first) = rest.next() {
                    first.join = Join::Contiguous;
                    run.push(first);
                }
                run.extend(rest);
            }
        }
        kept.sort_by_key(|run| run.first().map(Piece::start));
        let mut pieces: Vec<Piece> = Vec::new();
        for run in kept {
            for (i, mut piece) in run.into_iter().enumerate() {
                if i == 0 {
                    piece.join = match pieces.last() {
                        Some(last) if last.end() == piece.start() && last.rotate_to.is_some() => {
                            Join::NextFile
                        }
                        Some(last) if last.end() == piece.start() => Join::Contiguous,
                        _ => Join::Broken,
                    };
                }
                pieces.push(piece);
            }
        }
        // A place where the receiver stood between two holes holds nothing.
        let broken_next: Vec<bool> = pieces
            .iter()
            .skip(1)
            .map(|next| next.join == Join::Broken)
            .chain([false])
            .collect();
        let mut broken_next = broken_next.into_iter();
        pieces.retain(|piece| {
            !(broken_next.next() == Some(true)
                && piece.join == Join::Broken
                && piece.from == piece.to)
        });
        self.pieces = pieces;
        // A Rotate that nothing describes is of no use to anyone. What a transaction began with is a part of that.
        while self.pieces.first().is_some_and(|first| {
            !first.has_data
                && first.to > first.from
                && first.after.open_since().is_none()
                && self.format_of(0, &first.file).is_none()
        }) {
            self.pieces.remove(0);
            if let Some(first) = self.pieces.first_mut() {
                first.join = Join::Broken;
            }
        }
        Ok(())
    }

    /// The part of a run before `floor`; nothing if that is inside an event.
    fn cut_run(&self, run: Vec<Piece>, floor: &BinlogPosition) -> Result<Vec<Piece>, LogError> {
        let mut out = Vec::new();
        for piece in run {
            if piece.end() <= *floor {
                out.push(piece);
                continue;
            }
            // How it followed what is not stored, or the file before, still holds: nothing is missing in between.
            if piece.start() == *floor && out.last().is_some_and(|last| last.end() != *floor) {
                let (at, offset) = (piece.at, piece.from);
                let tracker = piece.marks.first().map(|mark| mark.tracker.clone());
                let tracker = tracker.unwrap_or_else(Tracker::unknown);
                out.push(piece.truncated(offset, at, tracker, None));
                break;
            }
            // Behind a Rotate its file holds nothing: one that newer events contradict is not kept.
            if piece.start() < *floor && piece.file == floor.file && floor.offset < piece.to {
                match self.state_at(&piece, floor.offset)? {
                    Some((after, last_whole)) => {
                        let end_at = self.physical(&piece, floor.offset)?;
                        out.push(piece.truncated(floor.offset, end_at, after, last_whole));
                    }
                    None => return Ok(Vec::new()),
                }
            }
            break;
        }
        Ok(out)
    }

    /// What is known of transactions at a boundary inside a piece; `None` if it is none.
    fn state_at(
        &self,
        piece: &Piece,
        offset: u64,
    ) -> Result<Option<(Tracker, Option<Whole>)>, LogError> {
        let Some(first) = piece.marks.first() else {
            return Ok(None);
        };
        let mut tracker = first.tracker.clone();
        let mut last_whole = None;
        let mut boundary = true;
        self.walk_piece(piece, piece.from, &mut |event, start| {
            if start >= offset {
                return Ok(Next::Stop);
            }
            if let Some(ended) = tracker.feed(event, start) {
                last_whole = Some(Whole {
                    end: start + u64::from(event.header.event_size),
                    ended,
                });
            }
            boundary = start + u64::from(event.header.event_size) <= offset;
            Ok(Next::Go)
        })?;
        Ok(boundary.then_some((tracker, last_whole)))
    }
}

#[cfg(test)]
mod tests {
    use crate::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
    use crate::event::{EventType, rotate};
    use crate::testing::{PrimaryLog, RelayWriter, event};
    use crate::{RelayLogs, ServerId, StreamRange};

    #[test]
    fn a_connection_that_repeats_a_rotate_and_brings_only_further_ones_is_held_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = PrimaryLog::new("b.000009".parse().unwrap(), 1, Crc32);
        log.transaction(1, 1, 20).rotate_with(NoChecksum).rotate();
        let (rotates, events) = (4 + 1, &log.events);
        let mut relay = RelayWriter::new("relay.000001".parse().unwrap(), 9, Crc32);
        relay.connect(&log, &events[0].start);
        for event in &events[..rotates + 2] {
            relay.receive(&log, event);
        }
        relay.connect(&log, &events[rotates].start);
        for event in &events[rotates..] {
            relay.receive(&log, event);
        }
        let files = relay.write_to(dir.path()).unwrap();
        let relay = RelayLogs::open(files, ServerId(9), None).unwrap();
        let survey = relay.survey().unwrap();
        assert_eq!(survey.data_end.as_ref(), Some(log.position()));
        assert_eq!(survey.ranges.len(), 1, "{:?}", survey.ranges);
        assert!(relay.locate(log.position()).unwrap().at_end);
    }

    /// As a receiver leaves it that starts again at the place behind what it does not store, or at the head of a file
    /// to which its source went on by itself.
    #[test]
    fn what_was_received_twice_from_the_same_place_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = "mariadb-bin.000009".parse().unwrap();
        let mut log = PrimaryLog::with_version(file, 1, Crc32, "10.11.6-MariaDB-log");
        log.mariadb_gtid(0, 1, 0).transaction(1, 1, 20);
        let start = log.position().clone();
        let mut name = 18_u32.to_le_bytes().to_vec();
        name.extend_from_slice(b"mariadb-bin.000009");
        log.event(EventType::MARIADB_BINLOG_CHECKPOINT, &name)
            .mariadb_gtid(0, 2, 0)
            .transaction(2, 1, 20);
        let mut relay = RelayWriter::new("relay.000001".parse().unwrap(), 9, Crc32);
        for _ in 0..2 {
            relay.connect(&log, &start);
            let stored = log.events.iter().filter(|event| {
                event.start >= start && event.type_code != EventType::MARIADB_BINLOG_CHECKPOINT
            });
            for event in stored {
                relay.receive(&log, event);
            }
        }
        let files = relay.write_to(dir.path()).unwrap();
        let relay = RelayLogs::open(files, ServerId(9), None).unwrap();
        let survey = relay.survey().unwrap();
        assert_eq!(
            survey.ranges,
            [StreamRange::new(start, log.position().clone())]
        );
        assert_eq!(survey.data_end.as_ref(), Some(log.position()));
    }

    #[test]
    fn going_back_to_the_place_behind_what_is_not_stored_leaves_no_hole() {
        let mut log = PrimaryLog::new("b.000009".parse().unwrap(), 1, Crc32);
        log.transaction(1, 1, 20).crash();
        let head = log.events.len() - 1;
        log.event(EventType::PREVIOUS_GTIDS, &[0; 8])
            .transaction(2, 1, 20)
            .transaction(3, 1, 20);
        let events = &log.events;
        for again in [head, head + 2] {
            let dir = tempfile::tempdir().unwrap();
            let mut relay = RelayWriter::new("relay.000001".parse().unwrap(), 9, Crc32);
            relay.connect(&log, &events[0].start);
            let take = |relay: &mut RelayWriter, from: usize| {
                for written in &events[from..] {
                    relay.receive(&log, written);
                    if written.type_code == EventType::PREVIOUS_GTIDS {
                        let at = relay.files.last().unwrap().1.len();
                        let body = rotate::body(&written.end);
                        let end = u32::try_from(at + 19 + body.len() + 4).unwrap();
                        relay.append(&event(EventType::ROTATE, 0, end, 0, &body, Crc32));
                    }
                }
            };
            take(&mut relay, 0);
            relay.connect(&log, &events[again].start);
            take(&mut relay, again);
            let files = relay.write_to(dir.path()).unwrap();
            let relay = RelayLogs::open(files, ServerId(9), None).unwrap();
            let whole = StreamRange::new(events[0].start.clone(), log.position().clone());
            assert_eq!(relay.survey().unwrap().ranges, std::slice::from_ref(&whole));
            let crate::CutPlan::Cut(cut) = relay.plan_cut(&whole).unwrap() else {
                panic!("nothing to cut")
            };
            let output = dir.path().join("segment");
            let manifest = cut.write(&output, "test", &mut |_| ()).unwrap();
            assert_eq!(
                (manifest.transactions, manifest.made_up_rotates.len()),
                (3, 1)
            );
            let chain = crate::SegmentChain::open(&[output]).unwrap();
            assert_eq!(
                (chain.range(), chain.whole_end()),
                (whole.clone(), whole.to)
            );
        }
    }
}
