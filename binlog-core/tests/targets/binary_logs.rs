//! One or two files of a primary: what is surveyed, cut and joined is what the files hold.

use std::path::Path;

use binlog_core::transaction::is_bookkeeping;
use binlog_core::{
    BinaryLogs, BinlogFileName, BinlogPosition, Cut, CutPlan, EventBytes, LogError, Manifest,
    SegmentChain, StreamRange, Survey,
};

use super::Scratch;
use super::container::{EXTRA, Input};
use super::naive;

/// Most places from which an input is cut.
const PLACES_MAX: usize = 6;

/// The target.
pub fn check(input: &Input<'_>, scratch: &Scratch) {
    scratch.clear();
    let files = input.logs(2, false);
    let mut name: BinlogFileName = format!("mysql-bin.{:06}", input.number).parse().unwrap();
    let mut named = Vec::new();
    let mut index = String::new();
    for file in files {
        scratch.write(name.as_str(), &file);
        index.push_str(&format!("./{name}\n"));
        named.push((name.clone(), file));
        name = name.next();
    }
    if input.has(EXTRA) {
        scratch.write("mysql-bin.index", index.as_bytes());
    }
    let logs = BinaryLogs::open(&scratch.path("mysql-bin")).unwrap();
    assert_eq!(logs.files().len(), named.len());
    let first = BinlogPosition::new(named[0].0.clone(), 4);
    let (whole, newest) = (logs.survey(Some(&first)), logs.survey(None));
    for survey in [&whole, &newest].into_iter().flatten() {
        plausible(survey, &named);
    }
    if let (Ok(whole), Ok(newest)) = (&whole, &newest)
        && whole.end == newest.end
    {
        assert_eq!(whole.last_transaction, newest.last_transaction);
        assert_eq!(whole.data_end, newest.data_end);
    }
    let Ok(whole) = whole else { return };
    let places = places(&named, usize::from(input.cut));
    for place in &places {
        let before = logs.event_before(place);
        if let Ok(Some(digest)) = before {
            assert!(digest.end <= *place && digest.start < digest.end);
        }
        let plan = logs.plan_cut(place, None);
        drafted(&logs, place, &plan, scratch);
        let Ok(plan) = plan else { continue };
        let survey = logs.survey(Some(place)).ok();
        match plan {
            CutPlan::Nothing(nothing) => {
                assert_eq!(nothing.at, *place);
                assert!(survey.is_none_or(|s| s.whole_end.is_none_or(|end| end <= *place)));
            }
            CutPlan::Cut(cut) => {
                let survey = survey.unwrap();
                assert_eq!(Some(&cut.range().to), survey.whole_end.as_ref());
                if survey.end == whole.end {
                    assert_eq!(survey.whole_end, whole.whole_end);
                }
                let expected = events_in(&named, cut.range());
                let chain = write(&cut, &scratch.path("segment"));
                assert!(streamed(&chain, place) == expected, "{}", cut.range());
                halves(&logs, &cut, &places, scratch, &expected);
            }
        }
    }
}

/// Written while the log is read, a segment is the same, and so are the plan and the refusal without one.
fn drafted(
    logs: &BinaryLogs,
    place: &BinlogPosition,
    planned: &Result<CutPlan, LogError>,
    scratch: &Scratch,
) {
    let paths = [scratch.path("planned"), scratch.path("drafted")];
    match (planned, logs.plan_and_draft(place, &paths[1], &mut |_| ())) {
        (Ok(CutPlan::Cut(planned)), Ok(CutPlan::Cut(drafted))) => {
            let write = |cut: &Cut, path| cut.write(path, "test", &mut |_| ()).unwrap();
            assert_eq!(write(&drafted, &paths[1]), write(planned, &paths[0]));
            let [planned, drafted] = paths.map(|path| std::fs::read(path).unwrap());
            assert!(planned == drafted, "from {place}");
        }
        (Ok(CutPlan::Nothing(planned)), Ok(CutPlan::Nothing(drafted))) => {
            assert_eq!(*planned, drafted);
        }
        (Err(planned), Err(drafted)) => assert_eq!(planned.to_string(), drafted.to_string()),
        other => panic!("{place}: {other:?}"),
    }
    assert!(!scratch.path("drafted.part").exists(), "from {place}");
}

/// Two cuts that meet anywhere between transactions are one.
fn halves(
    logs: &BinaryLogs,
    cut: &Cut,
    places: &[BinlogPosition],
    scratch: &Scratch,
    expected: &[Vec<u8>],
) {
    let StreamRange { from, to } = cut.range();
    let Some(middle) = places.iter().find(|&place| from < place && place < to) else {
        return;
    };
    let (first, second) = match (
        logs.plan_cut(from, Some(middle)),
        logs.plan_cut(middle, Some(to)),
    ) {
        (Ok(CutPlan::Cut(first)), Ok(CutPlan::Cut(second))) => (first, second),
        (Err(LogError::InsideTransaction { start, .. }), Ok(CutPlan::Cut(_))) => {
            return assert!(start < *middle);
        }
        other => panic!("{middle} in {}: {other:?}", cut.range()),
    };
    let paths = [scratch.path("first"), scratch.path("second")];
    write(&first, &paths[0]);
    write(&second, &paths[1]);
    let chain = SegmentChain::open(&paths).unwrap();
    assert_eq!(chain.range(), *cut.range());
    assert!(streamed(&chain, from) == expected, "joined at {middle}");
}

/// What every survey must say.
fn plausible(survey: &Survey, files: &[(BinlogFileName, Vec<u8>)]) {
    let (_, file) = files
        .iter()
        .find(|(name, _)| name.as_str() == survey.end.file())
        .unwrap();
    let end = survey.end.offset();
    assert!(end <= file.len() as u64);
    let (events, _) = naive::walk(file);
    assert!(
        end <= 4 || events.iter().any(|event| event.end() as u64 == end),
        "{} is inside an event",
        survey.end
    );
    if let (Some(whole), Some(data)) = (&survey.whole_end, &survey.data_end) {
        assert!(whole <= data);
    }
    for range in &survey.ranges {
        assert!(range.from <= range.to);
    }
}

/// Some event boundaries of the files.
fn places(files: &[(BinlogFileName, Vec<u8>)], pick: usize) -> Vec<BinlogPosition> {
    let all: Vec<_> = files
        .iter()
        .flat_map(|(name, file)| {
            let (events, _) = naive::walk(file);
            let ends: Vec<u64> = [4]
                .into_iter()
                .chain(events.iter().map(|event| event.end() as u64))
                .collect();
            ends.into_iter()
                .map(|end| BinlogPosition::new(name.clone(), end))
        })
        .collect();
    let stride = all.len().div_ceil(PLACES_MAX).max(1);
    all.into_iter()
        .skip(pick % stride)
        .step_by(stride)
        .collect()
}

/// Data events of the files in a range.
fn events_in(files: &[(BinlogFileName, Vec<u8>)], range: &StreamRange) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (name, file) in files {
        for event in naive::walk(file).0 {
            let start = BinlogPosition::new(name.clone(), event.offset as u64);
            if range.from <= start && start < range.to && !is_bookkeeping(event.header.type_code) {
                out.push(event.bytes.to_vec());
            }
        }
    }
    out
}

/// Writes a segment and opens it: what was planned is there.
pub fn write(cut: &Cut, path: &Path) -> SegmentChain {
    let manifest = cut.write(path, "test", &mut |_| ()).unwrap();
    assert_eq!(Manifest::load(path).unwrap(), manifest);
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len() as u64, manifest.size);
    // The segment is a log of its own, whole to the last byte.
    let (_, end) = naive::walk(&bytes);
    assert_eq!(end, naive::NaiveEnd::Boundary(bytes.len()));
    let chain = SegmentChain::open(&[path.to_owned()]).unwrap();
    assert_eq!(chain.range(), *cut.range());
    chain
}

/// Data events of a chain.
pub fn streamed(chain: &SegmentChain, from: &BinlogPosition) -> Vec<Vec<u8>> {
    let mut at = from.clone();
    let mut out = Vec::new();
    for event in chain.events_from(from).unwrap() {
        let event = event.unwrap();
        assert!(
            at <= event.position_before,
            "{at} {}",
            event.position_before
        );
        assert!(event.position_before <= event.position_after);
        at = event.position_after;
        if !is_bookkeeping(event.header.type_code) {
            match event.bytes {
                EventBytes::Inline(bytes) => out.push(bytes),
                EventBytes::Blocks(_) => panic!("a large event"),
            }
        }
    }
    out
}
