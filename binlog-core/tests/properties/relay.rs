//! A receiver that does what it is told, and what must follow from that: which events are held and where, which ranges
//! and holes that makes, and what every question about a position must be answered with.

use std::collections::{BTreeMap, BTreeSet};

use binlog_core::checksum::ChecksumAlgorithm::{self, None as NoChecksum};
use binlog_core::event::rotate;
use binlog_core::testing::{RelayWriter, event};
use binlog_core::{
    BinlogPosition, EventType, LogError, RelayLogs, RelayPosition, ServerId, StreamRange,
};
use proptest::prelude::*;

use crate::primary::{Flavour, Primary, is_unstored};
use crate::segment::range;

/// What a receiver does before it takes an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
    /// Opens another relay log by size.
    Rotate,
    /// Connects again where it is.
    Reconnect,
    /// Connects again at the start of a transaction of this file that it has already.
    GoBack,
    /// Drops the transaction that comes: its server id is ignored.
    Ignore,
}

/// At which of its steps it does what.
pub(crate) fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let one = prop_oneof![
        2 => Just(Act::Rotate),
        2 => Just(Act::Reconnect),
        1 => Just(Act::GoBack),
        1 => Just(Act::Ignore),
    ];
    proptest::collection::vec((0..50_usize, one), 0..16)
}

/// What was written into a relay log, and where it ends there.
#[derive(Debug, Clone)]
struct Step {
    file: usize,
    end: u64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// The source says where it begins.
    Connected(BinlogPosition),
    /// An event.
    Stored(usize),
    /// The receiver says where it is, in place of an event that it does not store.
    Stated(BinlogPosition),
}

/// A receiver's relay logs.
pub(crate) struct Receiver {
    pub(crate) writer: RelayWriter,
    steps: Vec<Step>,
    /// The last file cannot be cut off further up.
    head: u64,
    /// First events of transactions that were dropped.
    ignored: Vec<usize>,
}

impl Receiver {
    /// Receives everything from event `first` on.
    pub(crate) fn run(
        primary: &Primary,
        first: usize,
        acts: &[(usize, Act)],
        own: ChecksumAlgorithm,
    ) -> Self {
        let events = &primary.log.events;
        let mut receiver = Self {
            writer: RelayWriter::new("relay.000001".parse().unwrap(), 9, own),
            steps: Vec::new(),
            head: 0,
            ignored: Vec::new(),
        };
        receiver.connect(primary, &events[first].start);
        let acts: BTreeMap<usize, Act> = acts.iter().copied().collect();
        let mut steps = 0..;
        let (mut i, mut back_to) = (first, None);
        while let Some(next) = events.get(i) {
            let head = next.type_code == EventType::FORMAT_DESCRIPTION;
            let previous = i.checked_sub(1).map(|i| events[i].type_code);
            let quiet =
                is_unstored(next.type_code) || previous == Some(EventType::MARIADB_ANNOTATE_ROWS);
            match steps.next().and_then(|step| acts.get(&step)) {
                Some(Act::Rotate) if !head => receiver.rotate(),
                Some(Act::Reconnect) if !head && !quiet => receiver.connect(primary, &next.start),
                Some(Act::GoBack) if !head && !quiet => {
                    let transaction = primary.transactions.iter().rev().find(|transaction| {
                        *transaction.end() < i
                            && events[*transaction.end()].end.file == next.start.file
                            && receiver.has(*transaction.end())
                    });
                    if let Some(transaction) = transaction
                        && back_to < Some(*transaction.start())
                    {
                        i = *transaction.start();
                        back_to = Some(i);
                        receiver.connect(primary, &events[i].start);
                        continue;
                    }
                }
                Some(Act::Ignore) => {
                    if let Some(transaction) = primary.starting(i) {
                        // A source that ends a file without a Rotate tells nobody that something came before.
                        let closing = events[transaction.end() + 1..]
                            .iter()
                            .find(|e| !is_unstored(e.type_code));
                        if closing.is_none_or(|e| e.type_code != EventType::FORMAT_DESCRIPTION) {
                            receiver.ignored.push(i);
                            i = transaction.end() + 1;
                            continue;
                        }
                    }
                }
                _ => {}
            }
            receiver.take(primary, i, first);
            i += 1;
        }
        receiver
    }

    fn has(&self, event: usize) -> bool {
        let is_it = |step: &Step| matches!(step.what, What::Stored(i) if i == event);
        self.steps.iter().any(is_it)
    }

    fn size(&self) -> u64 {
        self.writer.files.last().unwrap().1.len() as u64
    }

    fn note(&mut self, what: What) {
        let (file, end) = (self.writer.files.len() - 1, self.size());
        self.steps.push(Step { file, end, what });
    }

    fn rotate(&mut self) {
        self.writer.rotate();
        self.head = self.size();
    }

    fn connect(&mut self, primary: &Primary, at: &BinlogPosition) {
        self.writer.connect(&primary.log, at);
        self.head = self.size();
        self.note(What::Connected(at.clone()));
    }

    fn take(&mut self, primary: &Primary, i: usize, first: usize) {
        let next = &primary.log.events[i];
        match next.type_code {
            EventType::PREVIOUS_GTIDS => {
                let body = rotate::body(&next.end);
                let sums = if next.checksum == NoChecksum { 0 } else { 4 };
                let end = self.size() + 19 + body.len() as u64 + sums;
                let end = u32::try_from(end).unwrap();
                let states = event(EventType::ROTATE, 0, end, 0, &body, next.checksum);
                self.writer.append(&states);
                self.note(What::Stated(next.end.clone()));
            }
            type_code if is_unstored(type_code) => {}
            type_code => {
                if type_code == EventType::FORMAT_DESCRIPTION && i > first {
                    self.connect(primary, &next.start);
                }
                let files = self.writer.files.len();
                self.writer.receive(&primary.log, next);
                if self.writer.files.len() > files {
                    self.head = self.size() - next.bytes.len() as u64;
                }
                self.note(What::Stored(i));
            }
        }
    }

    /// Cuts the newest file off, at most up to its head.
    pub(crate) fn tear(&mut self, part: f64) {
        let size = self.size();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let keep = self.head + ((size - self.head) as f64 * part) as u64;
        let newest = self.writer.files.len() - 1;
        let bytes = &mut self.writer.files[newest].1;
        bytes.truncate(usize::try_from(keep).unwrap());
        self.steps
            .retain(|step| step.file < newest || step.end <= keep);
    }

    /// What follows from the files `purged..`; nothing if they hold no event.
    pub(crate) fn held(&self, primary: &Primary, purged: usize) -> Option<Held> {
        let events = &primary.log.events;
        let steps: Vec<&Step> = self
            .steps
            .iter()
            .filter(|step| step.file >= purged)
            .collect();
        let mut held = Held::default();
        // The first of the events whose file nothing has named yet, and where they end.
        let mut named = matches!(steps.first()?.what, What::Connected(_));
        for (n, step) in steps.iter().enumerate() {
            match &step.what {
                What::Connected(at) => {
                    let place = held
                        .stored
                        .keys()
                        .next_back()
                        .map(|&i| events[i].end.clone());
                    if !named
                        && place.is_some_and(|place| place.offset != at.offset || at.offset == 4)
                    {
                        held = Held::default();
                    }
                    named = true;
                    // What is newer wins, from the first event on that comes: until then it is no more than a word.
                    let stored = |step: &&Step| match step.what {
                        What::Stored(i) => Some(events[i].start.clone()),
                        _ => None,
                    };
                    if let Some(first) = steps[n + 1..].iter().find_map(stored) {
                        held.stored.retain(|&i, _| events[i].start < first);
                        held.said.retain(|said| *said < first);
                    }
                    let newest = held.stored.keys().next_back();
                    if newest.is_none_or(|&i| events[i].end <= *at) {
                        held.said.insert(at.clone());
                        held.connected.insert(at.clone());
                    }
                }
                What::Stated(at) => {
                    named = true;
                    held.said.insert(at.clone());
                }
                What::Stored(i) => {
                    named |= events[*i].type_code == EventType::ROTATE;
                    let place = (step.file, step.end);
                    held.stored.insert(*i, place);
                }
            }
        }
        if held.stored.is_empty() {
            return None;
        }
        held.find_ranges(primary);
        Some(held)
    }

    /// MariaDB: the numbers of the transactions tell whether a gap holds what nobody stores or one that was dropped, and
    /// none came yet.
    pub(crate) fn is_undecided(&self, primary: &Primary, held: &Held) -> bool {
        let number = |i: &&usize| primary.log.events[**i].type_code == EventType::MARIADB_GTID;
        let last = held.stored.keys().rev().find(number);
        primary.flavour == Flavour::MariaDb && self.ignored.iter().any(|i| last < Some(i))
    }

    /// What the receiver has read: `Master_Log_File:Read_Master_Log_Pos`.
    fn latest(&self, primary: &Primary) -> Option<BinlogPosition> {
        self.steps.last().map(|step| match &step.what {
            What::Connected(at) | What::Stated(at) => at.clone(),
            What::Stored(i) => primary.reached(*i),
        })
    }

    /// The files `purged..` in a directory.
    pub(crate) fn open(
        &self,
        primary: &Primary,
        dir: &std::path::Path,
        purged: usize,
    ) -> RelayLogs {
        let mut files = self.writer.write_to(dir).unwrap();
        files.drain(..purged);
        RelayLogs::open(files, ServerId(9), self.latest(primary)).unwrap()
    }
}

/// What a provider must say that it holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Events, and where they end: relay log and offset.
    pub(crate) stored: BTreeMap<usize, (usize, u64)>,
    /// Places that something stated.
    said: BTreeSet<BinlogPosition>,
    connected: BTreeSet<BinlogPosition>,
    pub(crate) ranges: Vec<StreamRange>,
}

impl Held {
    fn find_ranges(&mut self, primary: &Primary) {
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
