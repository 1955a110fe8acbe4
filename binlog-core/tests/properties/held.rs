//! What must follow from what a receiver was given: ranges, holes, and the answer to every question about a position.

use std::collections::{BTreeMap, BTreeSet};

use binlog_core::{BinlogPosition, EventType, LogError, RelayLogs, RelayPosition, StreamRange};

use crate::primary::{Primary, is_unstored};
use crate::relay::Receiver;
use crate::segment::range;

/// What a provider must say that it holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Events, and where they end: relay log and offset.
    pub(crate) stored: BTreeMap<usize, (usize, u64)>,
    /// Places that something stated.
    pub(crate) said: BTreeSet<BinlogPosition>,
    /// Those that a source stated.
    pub(crate) connected: BTreeSet<BinlogPosition>,
    pub(crate) ranges: Vec<StreamRange>,
}

impl Held {
    pub(crate) fn find_ranges(&mut self, primary: &Primary) {
        let mut open = false;
        for (i, event) in primary.log.events.iter().enumerate() {
            if self.stored.contains_key(&i) {
                if !open {
                    // A place that something stated before, with nothing to be stored in between.
                    let quiet = primary.log.events[..i].iter().rev();
                    let quiet = quiet.take_while(|e| is_unstored(e.type_code));
                    let from = quiet
                        .flat_map(|e| [&e.end, &e.start])
                        .filter(|place| self.said.contains(place))
                        .last();
                    self.ranges
                        .push(range(from.unwrap_or(&event.start), &event.end));
                }
                open = true;
                self.ranges.last_mut().unwrap().to = primary.reached(i);
            } else if !is_unstored(event.type_code) {
                // Only a stated place goes beyond the last event: the start of the file that is lost, say.
                if open && self.said.contains(&event.start) {
                    self.ranges.last_mut().unwrap().to = event.start.clone();
                }
                open = false;
            } else if open && self.said.contains(&event.end) {
                self.ranges.last_mut().unwrap().to = event.end.clone();
            }
        }
    }

    pub(crate) fn events(&self) -> Vec<usize> {
        self.stored.keys().copied().collect()
    }

    pub(crate) fn holes(&self) -> Vec<StreamRange> {
        let pairs = self.ranges.windows(2);
        pairs
            .map(|pair| range(&pair[0].to, &pair[1].from))
            .collect()
    }

    /// The end of the last transaction that ends in what is held, and is known to.
    pub(crate) fn whole_end(&self, primary: &Primary) -> Option<BinlogPosition> {
        let events = &primary.log.events;
        let mut whole = None;
        for held in &self.ranges {
            // Behind a hole nobody knows what a statement without BEGIN belongs to, until something tells.
            let mut known = false;
            let inside = |i: &usize| held.from <= events[*i].start && events[*i].start < held.to;
            for i in self.stored.keys().copied().filter(inside) {
                known |= self.connected.contains(&events[i].start)
                    && !self.stored.contains_key(&i.wrapping_sub(1))
                    || matches!(
                        events[i].type_code,
                        EventType::XID
                            | EventType::FORMAT_DESCRIPTION
                            | EventType::ROTATE
                            | EventType::GTID
                            | EventType::ANONYMOUS_GTID
                            | EventType::MARIADB_GTID
                    );
                let ends = |transaction: &&std::ops::RangeInclusive<usize>| *transaction.end() == i;
                if known && primary.transactions.iter().any(|t| ends(&t)) {
                    whole = Some(events[i].end.clone());
                }
            }
        }
        whole
    }

    /// Compares the answers about every event end, and about places inside of events.
    pub(crate) fn compare_places(&self, primary: &Primary, relay: &RelayLogs, names: &Receiver) {
        let named =
            |file: usize, offset| RelayPosition::new(names.writer.files[file].0.clone(), offset);
        let last = *self.stored.keys().next_back().unwrap();
        for (i, event) in primary.log.events.iter().enumerate() {
            let stored = self.stored.get(&i);
            let next = self.stored.range(i + 1..).next();
            let ranged = self.ranges.iter().find(|held| held.touches(&event.end));
            let found = relay.locate(&event.end);
            match (stored, next) {
                (Some(&(file, end)), _) => {
                    let found = found.unwrap_or_else(|e| panic!("{}: {e}", event.end));
                    assert_eq!(found.position, named(file, end), "{}", event.end);
                    assert_eq!(found.at_end, i == last, "{}", event.end);
                }
                // The source went on to the next file by itself, and nothing says what stood at the end of this one.
                (None, next)
                    if !self
                        .said
                        .iter()
                        .any(|said| said.file == event.end.file && *said >= event.end)
                        && is_unstored(event.type_code)
                        && next.is_none_or(|(&n, _)| {
                            primary.log.events[n].start.file != event.end.file
                        }) =>
                {
                    assert!(
                        matches!(found, Err(LogError::NotHeld { .. })),
                        "{}: {found:?}",
                        event.end
                    );
                }
                (None, Some((&n, &(file, end))))
                    if ranged.is_some_and(|held| {
                        let next = &primary.log.events[n];
                        held.from <= next.start && next.start < held.to
                    }) =>
                {
                    let found = found.unwrap_or_else(|e| panic!("{}: {e}", event.end));
                    let start = end - primary.log.events[n].bytes.len() as u64;
                    assert_eq!(found.position, named(file, start), "{}", event.end);
                    assert!(!found.at_end, "{}", event.end);
                }
                _ if ranged.is_some() => {}
                _ => assert!(
                    matches!(found, Err(LogError::NotHeld { .. })),
                    "{}: {found:?}",
                    event.end
                ),
            }
            for offset in [event.start.offset + 1, event.end.offset - 1] {
                let position = BinlogPosition::new(event.start.file.clone(), offset);
                let found = relay.locate(&position);
                let right = match &found {
                    Err(LogError::NotABoundary { before, after, .. }) => {
                        stored.is_some() && (before, after) == (&event.start, &event.end)
                    }
                    Err(LogError::NotHeld { .. }) => stored.is_none(),
                    Ok(_) => is_unstored(event.type_code),
                    Err(_) => false,
                };
                assert!(right, "{position}: {found:?}");
            }
        }
    }
}
