//! A receiver that does what it is told, and which events are held by its files because of that.

use std::collections::BTreeMap;

use binlog_core::checksum::ChecksumAlgorithm::{self, None as NoChecksum};
use binlog_core::event::rotate;
use binlog_core::testing::{RelayWriter, event};
use binlog_core::{BinlogPosition, EventType, RelayLogs, ServerId};
use proptest::prelude::*;

use crate::held::Held;
use crate::primary::{Flavour, Primary, is_unstored};

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
