//! Compares a replica's relay logs with the binary log of its primary, at every event end.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)] // helpers of several tests

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use binlog_core::reader::{EventReader, Step};
use binlog_core::segment::{EventBytes, SegmentChain};
use binlog_core::transaction::is_bookkeeping;
use binlog_core::{
    BinaryLogs, BinlogPosition, CutPlan, LogError, RelayFileName, RelayLogs, ServerId, StreamRange,
};

/// What was compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Event ends of the primary inside what the replica holds.
    pub(crate) ends: usize,
    /// Of these, those that were located and from which a segment was cut that equals the primary's events.
    pub(crate) served: usize,
    /// Ranges and holes of the replica.
    pub(crate) ranges: Vec<StreamRange>,
    /// Holes.
    pub(crate) holes: Vec<StreamRange>,
}

/// One event of the primary: its end, whether it is bookkeeping, its bytes.
pub(crate) type Truth = BTreeMap<BinlogPosition, (BinlogPosition, bool, Vec<u8>)>;

/// All events of the primary by their start.
pub(crate) fn truth(basename: &Path) -> Truth {
    let logs = BinaryLogs::open(basename).unwrap();
    let mut truth = Truth::new();
    for file in logs.files() {
        let mut reader = EventReader::open(&basename.with_file_name(file.as_str())).unwrap();
        while let Step::Event(event) = reader.step().unwrap() {
            let start = BinlogPosition::new(file.clone(), event.offset);
            let end = BinlogPosition::new(file.clone(), event.end());
            truth.insert(
                start,
                (
                    end,
                    is_bookkeeping(event.header.type_code),
                    event.bytes.to_vec(),
                ),
            );
        }
    }
    truth
}

/// The relay logs `base.NNNNNN` of a directory.
pub(crate) fn relay_logs(
    dir: &Path,
    base: &str,
    owner: u32,
    latest: Option<BinlogPosition>,
) -> RelayLogs {
    let mut files: Vec<(RelayFileName, PathBuf)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<RelayFileName>().ok()?,
                entry.path(),
            ))
        })
        .filter(|(name, _)| name.base() == base)
        .collect();
    files.sort();
    RelayLogs::open(files, ServerId(owner), latest).unwrap()
}

/// The data events of a chain from a place on.
pub(crate) fn streamed(chain: &SegmentChain, from: &BinlogPosition) -> Vec<Vec<u8>> {
    let mut at = from.clone();
    let mut out = vec![];
    for event in chain.events_from(from).unwrap() {
        let event = event.unwrap();
        assert!(
            at <= event.position_before,
            "the stream went back from {at} to {}",
            event.position_before
        );
        at = event.position_after.clone();
        if !is_bookkeeping(event.header.type_code) {
            match event.bytes {
                EventBytes::Inline(bytes) => out.push(bytes),
                EventBytes::Blocks(_) => panic!("a large event"),
            }
        }
    }
    out
}

/// The primary's data events in a range.
pub(crate) fn expected(truth: &Truth, range: &StreamRange) -> Vec<Vec<u8>> {
    truth
        .range(range.from.clone()..range.to.clone())
        .filter(|(_, (_, bookkeeping, _))| !bookkeeping)
        .map(|(_, (_, _, bytes))| bytes.clone())
        .collect()
}

/// Compares everything.
pub(crate) fn compare(basename: &Path, relay: &RelayLogs, scratch: &Path) -> Compared {
    let truth = truth(basename);
    let binary = BinaryLogs::open(basename).unwrap();
    let survey = relay.survey().unwrap();
    let mut compared = Compared {
        ranges: survey.ranges.clone(),
        holes: survey.holes.clone(),
        ..Compared::default()
    };
    let output = scratch.join("segment");
    for range in &survey.ranges {
        for (start, (end, _, bytes)) in truth.range(range.from.clone()..) {
            if *end > range.to {
                break;
            }
            if bytes[4] == binlog_core::EventType::STOP.0 {
                // A receiver does not count the Stop event: nobody ever stands behind it.
                continue;
            }
            compared.ends += 1;
            let served = serve(relay, &truth, range, start, end, bytes, &output);
            match served {
                Ok(()) => compared.served += 1,
                Err(why) => eprintln!("{end}: {why}"),
            }
            // Behind a hole or a purged relay log there may be none; another one is never named.
            let (ours, theirs) = (
                relay.event_before(end).unwrap(),
                binary.event_before(end).unwrap(),
            );
            let nothing_before =
                expected(&truth, &StreamRange::new(range.from.clone(), end.clone())).is_empty();
            assert!(
                ours == theirs || (ours.is_none() && (nothing_before || !survey.holes.is_empty())),
                "event before {end}: {ours:?} {theirs:?}"
            );
        }
        // Nothing else is a boundary.
        for (start, (end, _, _)) in truth.range(range.from.clone()..range.to.clone()) {
            for offset in [
                start.offset + 1,
                (start.offset + end.offset) / 2,
                end.offset - 1,
            ] {
                let inside = BinlogPosition::new(start.file.clone(), offset);
                if let Ok(located) = relay.locate(&inside) {
                    let unstored = !survey.ranges.is_empty()
                        && truth
                            .get(start)
                            .is_some_and(|(_, bookkeeping, _)| *bookkeeping);
                    assert!(unstored, "{inside} located at {}", located.position);
                }
            }
        }
    }
    compared
}

fn serve(
    relay: &RelayLogs,
    truth: &Truth,
    range: &StreamRange,
    start: &BinlogPosition,
    end: &BinlogPosition,
    bytes: &[u8],
    output: &Path,
) -> Result<(), String> {
    let located = relay.locate(end).map_err(|e| e.to_string())?;
    let held = relay.locate(start).is_ok();
    let (_, path) = relay
        .files()
        .iter()
        .find(|(name, _)| *name == located.position.file)
        .unwrap();
    let file = std::fs::read(path).unwrap();
    let until = usize::try_from(located.position.offset).unwrap();
    let stored = until
        .checked_sub(bytes.len())
        .and_then(|from| file.get(from..until));
    let bookkeeping = truth
        .get(start)
        .is_some_and(|(_, bookkeeping, _)| *bookkeeping);
    if held && !bookkeeping && stored != Some(bytes) {
        return Err(format!("{} is not behind the event", located.position));
    }
    let rest = StreamRange::new(end.clone(), range.to.clone());
    match relay.plan_cut(&rest).map_err(|e: LogError| e.to_string())? {
        CutPlan::Cut(cut) => {
            cut.write(output, "test", &mut |_| ()).unwrap();
            let chain = SegmentChain::open(&[output.to_owned()]).map_err(|e| e.to_string())?;
            if streamed(&chain, end) != expected(truth, &rest) {
                return Err("the segment differs from the primary's log".to_owned());
            }
            Ok(())
        }
        CutPlan::Nothing(_) if expected(truth, &rest).is_empty() => Ok(()),
        CutPlan::Nothing(nothing) => Err(format!("nothing to cut: {}", nothing.reason)),
    }
}
