//! Every event end of a set of logs: what must be answered, computed from [`super::naive`], against what is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use binlog_core::{
    BinlogPosition, CutPlan, LogError, RelayFileName, RelayLogs, ServerId, StreamRange,
};

use super::commands;
use super::naive::{self, Event, FORMAT_DESCRIPTION, Place, ROTATE, STOP, Stored, Truth, crc32};
use super::set::LogSet;

/// What must be answered for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// All data events from this one to the end of what was received.
    Serve(Place),
    /// No data event is between the target and the end.
    Nothing,
    /// The target lies before, behind or beside what is held.
    NotHeld,
    /// The data event that starts here is not held, though others are before it and behind it.
    Hole(Place),
}

/// How many targets had which answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) served: usize,
    pub(crate) nothing: usize,
    pub(crate) not_held: usize,
    pub(crate) holes: usize,
    pub(crate) no_boundary: usize,
}

/// A set with what is known of it.
pub(crate) struct Known {
    pub(crate) truth: Truth,
    pub(crate) stored: Vec<Stored>,
    held: BTreeSet<Place>,
    latest: Place,
    /// Relay logs were removed: where nothing but Rotates and the like is left, positions among those may be unknown.
    partial: bool,
}

impl Known {
    pub(crate) fn of(set: &LogSet) -> Self {
        let truth = Truth::read(&set.primary);
        let everything = naive::stored(&truth, &set.all_relay_logs(), set.owner);
        let present: BTreeSet<u64> = set
            .relay_logs()
            .iter()
            .filter_map(|path| naive::number_of(path))
            .collect();
        let stored: Vec<Stored> = everything
            .into_iter()
            .filter(|one| present.contains(&one.relay))
            .collect();
        let held = stored
            .iter()
            .map(|one| one.start)
            .filter(|start| truth.events[start].is_data())
            .collect();
        Self {
            truth,
            stored,
            held,
            latest: set.latest,
            partial: !set.gone.is_empty(),
        }
    }

    /// The end of every event of the primary, and the start of every file.
    pub(crate) fn targets(&self) -> BTreeSet<Place> {
        let ends = self
            .truth
            .events
            .keys()
            .map(|start| self.truth.end_of(*start));
        let heads = self
            .truth
            .events
            .keys()
            .map(|start| Place::new(start.file, 4));
        ends.chain(heads).collect()
    }

    /// What must be answered. The second value is another right answer: a target among events that no relay log holds,
    /// right before or behind a part that is missing, may be refused or served.
    pub(crate) fn expect(&self, target: Place) -> (Expected, Option<Expected>) {
        if target > self.latest {
            return (Expected::NotHeld, None);
        }
        let truth = &self.truth;
        let wanted: Vec<Place> = truth
            .data_from(target)
            .take_while(|start| truth.end_of(*start) <= self.latest)
            .collect();
        let reached = self.reached(target);
        let Some(first) = wanted.first() else {
            let other = (!reached).then_some(Expected::NotHeld);
            return (Expected::Nothing, other);
        };
        match wanted.iter().find(|start| !self.held.contains(start)) {
            None if reached || first == &target => (Expected::Serve(*first), None),
            None => (Expected::Serve(*first), Some(Expected::NotHeld)),
            Some(missing) if self.held.range(..*missing).next().is_none() => {
                // Or the head of the file is there, and what is missing is a hole behind it.
                let other = self.held.range(*missing..).next();
                let other = other.map(|_| Expected::Hole(*missing));
                (Expected::NotHeld, other)
            }
            Some(missing) if self.held.range(*missing..).next().is_none() => {
                // Received, but gone: the end of what is held is before the end of what was received. Or a Rotate behind
                // it is left, as of a receiver that connected once more, and says where the hole ends.
                (Expected::NotHeld, Some(Expected::Hole(*missing)))
            }
            Some(missing) => {
                let other = (!reached && target < *first).then_some(Expected::NotHeld);
                (Expected::Hole(*missing), other)
            }
        }
    }

    /// Whether relay logs know a place: with all of them there, what follows a data event they hold, except the end of a
    /// Stop, which no relay log stores and which is skipped by what follows.
    pub(crate) fn reached(&self, target: Place) -> bool {
        // With relay logs removed, the Rotate at the end of a file may be all that is left of it.
        let counts = |one: &Stored| !self.partial || self.held.contains(&one.start);
        let ends = |one: &Stored| self.truth.end_of(one.start) == target && counts(one);
        if self.stored.iter().any(ends) {
            return true;
        }
        let idle = self.held.is_empty();
        let mut before = self.truth.events.range(..target).rev();
        let stop = before.next().is_some_and(|(start, event)| {
            event.kind() == STOP && self.truth.end_of(*start) == target
        });
        // The receiver counts what it has not yet written: the head of a file of which it stores nothing else.
        let unwritten = !self.stored.iter().any(|one| one.start.file >= target.file);
        if self.partial || stop || idle || unwritten {
            return false;
        }
        let data = self.truth.data_before(target);
        data.is_some_and(|start| self.held.contains(&start))
    }

    /// Whether a data event of the primary stands at an offset of a relay log.
    pub(crate) fn stands_at(&self, relay: u64, offset: u64, start: Place) -> bool {
        self.stored
            .iter()
            .any(|one| (one.relay, one.at, one.start) == (relay, offset, start))
    }

    /// Whether relay logs were removed.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }

    /// A data event that is held, of those in the middle.
    pub(crate) fn some_held(&self) -> Option<Place> {
        self.held.iter().nth(self.held.len() / 2).copied()
    }

    fn is_stored(&self, start: Place) -> bool {
        self.stored.iter().any(|one| one.start == start)
    }

    /// That `missing` names the part in which the data event at `start` is, and nothing that is held.
    pub(crate) fn check_hole(&self, start: Place, missing: &StreamRange) -> Result<(), String> {
        let range = place(&missing.from)..place(&missing.to);
        if !range.contains(&start) {
            return Err(format!(
                "the hole {missing} is not where {start} is missing"
            ));
        }
        match self.held.range(range).next() {
            Some(held) => Err(format!(
                "{held} is held, but the hole is said to be {missing}"
            )),
            None => Ok(()),
        }
    }

    /// That the first data event of the primary at or behind an offset of a relay log is the one that starts at `wanted`.
    pub(crate) fn check_found(&self, relay: u64, offset: u64, wanted: Place) -> Result<(), String> {
        let found = self
            .stored
            .iter()
            .filter(|one| (one.relay, one.at) >= (relay, offset))
            .find(|one| self.truth.events[&one.start].is_data());
        match found {
            Some(one) if one.start == wanted => Ok(()),
            other => Err(format!(
                "at relay-bin.{relay:06}:{offset} stands {other:?}, not {wanted}"
            )),
        }
    }

    /// That no data event follows an offset of a relay log.
    pub(crate) fn check_end(&self, relay: u64, offset: u64) -> Result<(), String> {
        let follows = self
            .stored
            .iter()
            .filter(|one| (one.relay, one.at) >= (relay, offset))
            .find(|one| self.truth.events[&one.start].is_data());
        match follows {
            None => Ok(()),
            Some(one) => Err(format!(
                "relay-bin.{relay:06}:{offset} is no end: {one:?} follows"
            )),
        }
    }

    /// That a segment is the primary's own events from `target` to the end of what was received, with a format
    /// description at its head and a Rotate and a format description at each change of file.
    pub(crate) fn check_segment(&self, target: Place, path: &Path) -> Result<(), String> {
        self.check_events(target, self.latest, path)
    }

    /// The same to the end of the primary's log.
    pub(crate) fn check_tail(&self, target: Place, path: &Path) -> Result<(), String> {
        self.check_events(target, Place::new(u64::MAX, 0), path)
    }

    fn check_events(&self, target: Place, until: Place, path: &Path) -> Result<(), String> {
        let truth = &self.truth;
        let mut wanted = truth
            .data_from(target)
            .take_while(|start| truth.end_of(*start) <= until)
            .peekable();
        let mut file = target.file;
        let mut format_due = true;
        let mut head = target.offset > 4;
        for event in naive::events(path) {
            let at = format!("{}:{}", path.display(), event.offset);
            match event.kind() {
                FORMAT_DESCRIPTION => {
                    if !std::mem::take(&mut format_due) {
                        return Err(format!("{at}: a second format description"));
                    }
                    let first = std::mem::take(&mut head);
                    let mut same = same_format(&event, truth.format_description(file), first);
                    // Where only the Rotate is left of a file, the next file's description stands for the lost one.
                    let alone = wanted.peek().is_some_and(|start| start.file > file);
                    if first && self.partial && alone && same.is_err() {
                        same = same_format(&event, truth.format_description(file + 1), first);
                    }
                    same.map_err(|why| format!("{at}: format description of {file}: {why}"))?;
                }
                _ if format_due => return Err(format!("{at}: no format description of {file}")),
                ROTATE => {
                    if event.rotate_to() != Place::new(file + 1, 4) {
                        return Err(format!(
                            "{at}: Rotate to {} behind {file}",
                            event.rotate_to()
                        ));
                    }
                    (file, format_due) = (file + 1, true);
                }
                _ if !event.is_data() => {
                    // A MariaDB source sends some of them, and they are the primary's own.
                    let same = |own: &Event| own.bytes == event.bytes;
                    let mut own = truth
                        .events
                        .range(Place::new(file, 4)..Place::new(file + 1, 4));
                    if !own.any(|(_, own)| same(own)) {
                        return Err(format!("{at}: kind {} is not the primary's", event.kind()));
                    }
                }
                _ => {
                    let start = wanted
                        .next()
                        .ok_or_else(|| format!("{at}: more than there is"))?;
                    let own = &truth.events[&start].bytes;
                    if start.file != file || *own != event.bytes {
                        return Err(format!(
                            "{at}: not the primary's event at {start}: found {}, expected {}",
                            beginning(&event.bytes),
                            beginning(own)
                        ));
                    }
                }
            }
        }
        match wanted.next() {
            Some(start) => Err(format!(
                "{}: {start} and what follows is not there",
                path.display()
            )),
            None => Ok(()),
        }
    }
}

/// Length and first bytes of an event, in hexadecimal.
fn beginning(bytes: &[u8]) -> String {
    let head: String = bytes.iter().take(64).map(|b| format!("{b:02x}")).collect();
    format!("{} bytes {head}", bytes.len())
}

/// Compares a format description of a segment with the primary's: flags cleared, `created` zeroed at the head of a range
/// that starts beyond 4, checksum right; with the place in the file where the source resumed inside of it.
fn same_format(found: &Event, original: &Event, head: bool) -> Result<(), String> {
    const LOG_POS: std::ops::Range<usize> = 13..17;
    const FLAGS: std::ops::Range<usize> = 17..19;
    const CREATED: std::ops::Range<usize> = 71..75;
    let content = found.bytes.len() - 4;
    if found.flags() & 0x21 != 0 {
        return Err(format!("flags {:#x}", found.flags()));
    }
    if found.bytes[content..] != crc32(&found.bytes[..content]).to_le_bytes() {
        return Err("its checksum is wrong".to_owned());
    }
    if head && found.bytes[CREATED] != [0; 4] {
        return Err("created is not zero".to_owned());
    }
    let mut expected = original.bytes[..content].to_vec();
    expected[FLAGS].copy_from_slice(&(original.flags() & !0x21).to_le_bytes());
    if head {
        expected[CREATED].fill(0);
        if found.log_pos() == 0 {
            expected[LOG_POS].fill(0);
        }
    }
    if found.bytes[..content] == expected {
        Ok(())
    } else {
        let differs = (0..content.min(expected.len())).filter(|i| found.bytes[*i] != expected[*i]);
        Err(format!(
            "{} bytes instead of {content}, different at {:?}",
            expected.len(),
            differs.collect::<Vec<_>>()
        ))
    }
}

pub(crate) fn place(position: &BinlogPosition) -> Place {
    Place::new(position.file.sequence(), position.offset)
}

pub(crate) fn position(place: Place) -> BinlogPosition {
    place.to_string().parse().unwrap()
}

/// The relay logs of a set as the program sees them.
pub(crate) fn open(set: &LogSet) -> RelayLogs {
    let files: Vec<(RelayFileName, PathBuf)> = set
        .relay_logs()
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.parse().unwrap(), path)
        })
        .collect();
    RelayLogs::open(files, ServerId(set.owner), Some(position(set.latest))).unwrap()
}

/// Asks for every event end of a set, and for the middle of every event; fails with all wrong answers. Asks the library,
/// the functions of the commands, and the program once for each kind of answer.
pub(crate) fn every_event_end(set: &LogSet, agent: &Path, scratch: &Path) -> Result<Tally, String> {
    let known = Known::of(set);
    let logs = open(set);
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    let mut run = Vec::new();
    let every = if known.targets().len() > 100 { 4 } else { 1 };
    for (i, target) in known.targets().into_iter().enumerate() {
        let (expected, other) = known.expect(target);
        let mut ask = |expected: &Expected| {
            answer(&known, &logs, target, expected, &mut tally, scratch)?;
            // They ask the same library, and open all files each time: of long sets some are enough.
            if i % every == 0 {
                commands::ask(&known, set, target, expected, scratch)
                    .map_err(|why| format!("command: {why}"))?;
            }
            let kind = std::mem::discriminant(expected);
            if !run.contains(&kind) {
                run.push(kind);
                commands::run(agent, &known, set, target, expected, scratch)
                    .map_err(|why| format!("program: {why}"))?;
            }
            Ok::<_, String>(())
        };
        let result = match (ask(&expected), other) {
            (Err(first), Some(other)) => ask(&other).map_err(|second| format!("{first}; {second}")),
            (first, _) => first,
        };
        if let Err(why) = result {
            wrong.push(format!("{target}: {why}"));
        }
    }
    if !known.partial {
        let ends: Vec<Place> = known.targets().into_iter().collect();
        let save = commands::save_all(&known, set, scratch).map(|_| ());
        let some = ends
            .iter()
            .step_by(ends.len().div_ceil(3))
            .chain(ends.last());
        let save = some.fold(save, |so_far, target| {
            so_far.and_then(|()| commands::run_save(agent, &known, set, *target, scratch))
        });
        let inside = known.some_held().map_or(Ok(()), |start| {
            commands::run_inside(agent, &known, set, start)
        });
        wrong.extend([save, inside].into_iter().filter_map(Result::err));
    }
    for (start, event) in &known.truth.events {
        let inside = Place::new(start.file, start.offset + event.bytes.len() as u64 / 2);
        match no_boundary(&known, &logs, *start, inside) {
            Ok(()) => tally.no_boundary += 1,
            Err(why) => wrong.push(format!("{inside}, which is no boundary: {why}")),
        }
    }
    if wrong.is_empty() {
        return Ok(tally);
    }
    Err(format!(
        "{}: {} wrong, {tally:?}\n{}",
        set.name,
        wrong.len(),
        wrong.join("\n")
    ))
}

fn answer(
    known: &Known,
    logs: &RelayLogs,
    target: Place,
    expected: &Expected,
    tally: &mut Tally,
    scratch: &Path,
) -> Result<(), String> {
    let asked = position(target);
    let found = logs.locate(&asked);
    // To the end of what is held, which may be before what was received; never beyond that.
    let end = logs.survey().unwrap().data_end;
    let end = end.map_or(known.latest, |end| place(&end).min(known.latest));
    let range = StreamRange::new(asked.clone(), position(end));
    let plan = logs.plan_cut(&range);
    match expected {
        Expected::Serve(first) => {
            let found = found.map_err(|error| format!("find: {error}"))?.position;
            known.check_found(found.file.sequence(), found.offset, *first)?;
            let CutPlan::Cut(cut) = plan.map_err(|error| format!("generate: {error}"))? else {
                return Err(format!("nothing, though {first} follows"));
            };
            let output = scratch.join("segment");
            cut.write(&output, "test", &mut |_| ())
                .map_err(|error| format!("write: {error}"))?;
            known.check_segment(target, &output)?;
            tally.served += 1;
        }
        Expected::Nothing => {
            let found = found.map_err(|error| format!("find: {error}"))?.position;
            known.check_end(found.file.sequence(), found.offset)?;
            if let CutPlan::Cut(cut) = plan.map_err(|error| format!("generate: {error}"))? {
                // A range of Rotates and format descriptions alone.
                let output = scratch.join("segment");
                cut.write(&output, "test", &mut |_| ())
                    .map_err(|error| format!("write: {error}"))?;
                known.check_segment(target, &output)?;
            }
            tally.nothing += 1;
        }
        Expected::NotHeld => {
            match plan {
                Err(LogError::NotHeld { held, .. }) => {
                    let within = |range: &StreamRange| {
                        place(&range.from) < target && target < place(&range.to)
                    };
                    if known.reached(target) && held.iter().any(within) {
                        return Err(format!("not held, though in {held:?}"));
                    }
                }
                // Of a file whose format description went with a removed relay log.
                Err(LogError::NoFormatDescription { .. }) if known.partial => {}
                Err(LogError::BadRange { .. }) if target > end => {}
                other => return Err(format!("generate: {}", shown(&other))),
            }
            tally.not_held += 1;
        }
        Expected::Hole(start) => {
            match plan {
                Err(LogError::Hole { missing, .. }) => known.check_hole(*start, &missing)?,
                // The target itself is in the hole; the ranges on both sides name it.
                Err(LogError::NotHeld { held, .. }) => {
                    let pair = held
                        .windows(2)
                        .find(|pair| place(&pair[0].to) <= target && target <= place(&pair[1].from))
                        .ok_or_else(|| format!("not held, and no hole in {held:?}"))?;
                    let missing = StreamRange::new(pair[0].to.clone(), pair[1].from.clone());
                    known.check_hole(*start, &missing)?;
                }
                other => return Err(format!("generate: {}", shown(&other))),
            }
            tally.holes += 1;
        }
    }
    Ok(())
}

fn shown(plan: &Result<CutPlan, LogError>) -> String {
    match plan {
        Ok(CutPlan::Cut(cut)) => format!("a segment of {}", cut.range()),
        Ok(CutPlan::Nothing(nothing)) => format!("nothing: {}", nothing.reason),
        Err(error) => error.to_string(),
    }
}

/// A place inside an event that is held is refused with the ends of that event. Of those that no relay log holds only
/// the length of all together is known, and a place among them means what follows them.
fn no_boundary(known: &Known, logs: &RelayLogs, start: Place, inside: Place) -> Result<(), String> {
    let range = StreamRange::new(position(inside), position(known.latest));
    for error in [
        logs.locate(&position(inside)).err(),
        logs.plan_cut(&range).err(),
    ] {
        let neighbours = (start, known.truth.end_of(start));
        match error {
            None if known.is_stored(start) => return Err("accepted".to_owned()),
            None => {}
            Some(LogError::NotABoundary { before, after, .. }) => {
                let named = (place(&before), place(&after));
                if known.held.contains(&start) && named != neighbours {
                    return Err(format!("neighbours {named:?} instead of {neighbours:?}"));
                }
            }
            Some(LogError::BadRange { .. }) if inside > known.latest => {}
            Some(error) if known.held.contains(&start) => return Err(error.to_string()),
            Some(_) => {}
        }
    }
    Ok(())
}
