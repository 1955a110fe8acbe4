//! One to three relay logs: what is held, located and cut is consistent, and nothing is served that no file holds.

use std::collections::HashSet;

use binlog_core::transaction::is_bookkeeping;
use binlog_core::{
    BinlogPosition, CutPlan, EventBytes, LogError, MariaDbGtid, MariaDbGtidPos, RelayFileName,
    RelayLogs, SegmentChain, ServerId, StreamRange,
};

use super::Scratch;
use super::binary_logs::{streamed, write};
use super::container::{EXTRA, Input};
use super::naive;

/// The server id of the replicas in the golden sets.
const OWNER: ServerId = ServerId(2);
/// Most ranges of an input that are looked at, and events of a range.
const RANGES_MAX: usize = 3;
const EVENTS_MAX: usize = 12;

/// The target.
pub fn check(input: &Input<'_>, scratch: &Scratch) {
    scratch.clear();
    let contents = input.logs(3, true);
    let mut name: RelayFileName = "relay-bin.000001".parse().unwrap();
    let mut files = Vec::new();
    for content in &contents {
        files.push((name.clone(), scratch.write(name.as_str(), content)));
        name = name.next();
    }
    let walked: Vec<_> = contents.iter().map(|file| naive::walk(file)).collect();
    // What the receiver has read: the last position that any event names.
    let read = walked
        .iter()
        .flat_map(|(events, _)| events)
        .map(|event| u64::from(event.header.log_pos))
        .rfind(|&at| at > 0)
        .filter(|_| input.has(EXTRA))
        .map(|at| {
            let file = format!("mysql-bin.{:06}", input.number).parse().unwrap();
            BinlogPosition::new(file, at)
        });
    let Ok(logs) = RelayLogs::open(files.clone(), OWNER, read) else {
        return;
    };
    let Ok(survey) = logs.survey() else { return };
    // Empty files do not count.
    let last = contents.iter().rposition(|file| !file.is_empty());
    if let Some((_, end)) = last.map(|i| &walked[i]) {
        assert_eq!(survey.end.offset(), end.offset() as u64, "{}", survey.end);
    }
    if let (Some(whole), Some(data)) = (&survey.whole_end, &survey.data_end) {
        assert!(whole <= data);
    }
    for pair in survey.ranges.windows(2) {
        assert!(pair[0].to <= pair[1].from, "{:?}", survey.ranges);
    }
    let held: HashSet<&[u8]> = walked
        .iter()
        .flat_map(|(events, _)| events)
        .map(|event| event.bytes)
        .collect();
    for range in survey.ranges.iter().rev().take(RANGES_MAX) {
        whole_range(&logs, range, scratch, &held, &contents);
    }
    if let Some(tail) = logs.unfinished_tail().unwrap() {
        assert!(tail.start <= tail.end && Some(&tail.end) <= survey.data_end.as_ref());
    }
    let gtid = MariaDbGtid {
        domain_id: 0,
        server_id: 1,
        seq_no: u64::from(input.cut),
    };
    let mut position = MariaDbGtidPos::default();
    position.update(gtid);
    for found in [
        logs.position_after_gtid(&gtid).unwrap(),
        logs.position_of_gtid_pos(&position).unwrap(),
    ] {
        assert!(found.is_none_or(|at| survey.ranges.iter().any(|range| range.touches(&at))));
    }
}

fn whole_range(
    logs: &RelayLogs,
    range: &StreamRange,
    scratch: &Scratch,
    held: &HashSet<&[u8]>,
    contents: &[Vec<u8>],
) {
    assert!(range.from <= range.to);
    for end in [&range.from, &range.to] {
        let located = logs.locate(end).unwrap();
        let number = usize::try_from(located.position.file.sequence()).unwrap();
        assert!(located.position.offset <= contents[number - 1].len() as u64);
    }
    let cut = match logs.plan_cut(range) {
        Ok(CutPlan::Cut(cut)) => cut,
        Ok(CutPlan::Nothing(_)) => return assert!(range.is_empty()),
        // The relay log that held it is gone.
        Err(LogError::NoFormatDescription { .. }) => return,
        Err(e) => panic!("{range}: {e}"),
    };
    let chain = write(&cut, &scratch.path("segment"));
    let mut places = vec![range.from.clone()];
    for event in chain.events_from(&range.from).unwrap() {
        let event = event.unwrap();
        if is_bookkeeping(event.header.type_code) {
            continue;
        }
        let EventBytes::Inline(bytes) = &event.bytes else {
            panic!("a large event")
        };
        assert!(held.contains(&bytes[..]), "{}", event.position_before);
        if places.len() < EVENTS_MAX {
            located(logs, &event.position_after, bytes, contents);
            if logs.locate(&event.position_before).is_ok() {
                places.push(event.position_after);
            }
        }
    }
    let whole = streamed(&chain, &range.from);
    // Two cuts that meet at any event, also inside a transaction, are one.
    let middle = &places[places.len() / 2];
    if range.from < *middle && middle < &range.to {
        let paths = [scratch.path("first"), scratch.path("second")];
        for (path, from, to) in [
            (&paths[0], &range.from, middle),
            (&paths[1], middle, &range.to),
        ] {
            let part = StreamRange::new(from.clone(), to.clone());
            match logs.plan_cut(&part) {
                Ok(CutPlan::Cut(cut)) => write(&cut, path),
                other => panic!("{part}: {other:?}"),
            };
        }
        let joined = SegmentChain::open(&paths).unwrap();
        assert_eq!(joined.range(), *range);
        assert!(
            streamed(&joined, &range.from) == whole,
            "joined at {middle}"
        );
        assert_eq!(joined.whole_end(), chain.whole_end());
    }
}

/// The end of an event is located right behind its bytes.
fn located(logs: &RelayLogs, end: &BinlogPosition, bytes: &[u8], contents: &[Vec<u8>]) {
    let located = logs.locate(end).unwrap();
    let number = usize::try_from(located.position.file.sequence()).unwrap();
    let until = usize::try_from(located.position.offset).unwrap();
    let stored = until
        .checked_sub(bytes.len())
        .and_then(|from| contents[number - 1].get(from..until));
    assert!(
        stored == Some(bytes),
        "{end} located at {}",
        located.position
    );
}
