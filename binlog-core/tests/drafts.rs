//! A segment that is written while the log is read is the one that the plan says, or none.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::path::{Path, PathBuf};

use binlog_core::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
use binlog_core::segment::SegmentChain;
use binlog_core::testing::PrimaryLog;
use binlog_core::{
    BinaryLogs, BinlogPosition, Cut, CutPlan, EventType, LogError, Manifest, NothingReason,
};

fn log() -> PrimaryLog {
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, Crc32);
    log.transaction(1, 2, 10).transaction(2, 1, 300);
    log
}

fn files_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A log in a folder of its own, and an empty folder for segments.
struct Place {
    logs: tempfile::TempDir,
    segments: tempfile::TempDir,
}

impl Place {
    fn of(log: &PrimaryLog) -> Self {
        let (logs, segments) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        log.write_to(logs.path()).unwrap();
        Self { logs, segments }
    }

    fn open(&self) -> BinaryLogs {
        BinaryLogs::open(&self.logs.path().join("b")).unwrap()
    }

    fn segment(&self, name: &str) -> PathBuf {
        self.segments.path().join(name)
    }

    fn drafted(&self, from: &BinlogPosition, output: &Path) -> Cut {
        let mut last = 0;
        let plan = self.open().plan_and_draft(from, output, &mut |done| {
            assert!(last <= done, "{last} {done}");
            last = done;
        });
        match plan.unwrap() {
            CutPlan::Cut(cut) => cut,
            CutPlan::Nothing(nothing) => panic!("{nothing:?}"),
        }
    }

    /// Cuts from `from` in both ways, the second time without the log: what is there was written before.
    fn same_both_ways(&self, from: &BinlogPosition) -> Manifest {
        let (apart, drafted) = (self.segment("apart"), self.segment("drafted"));
        let CutPlan::Cut(plan) = self.open().plan_cut(from, None).unwrap() else {
            panic!("nothing to cut")
        };
        let wanted = plan.write(&apart, "test", &mut |_| ()).unwrap();
        let cut = self.drafted(from, &drafted);
        let away = self.logs.path().with_extension("away");
        std::fs::rename(self.logs.path(), &away).unwrap();
        let manifest = cut.write(&drafted, "test", &mut |_| ()).unwrap();
        std::fs::rename(&away, self.logs.path()).unwrap();
        assert_eq!(manifest, wanted);
        assert!(std::fs::read(&drafted).unwrap() == std::fs::read(&apart).unwrap());
        let chain = SegmentChain::open(std::slice::from_ref(&drafted)).unwrap();
        assert_eq!(
            (&chain.range(), &chain.whole_end()),
            (&wanted.range, &wanted.range.to)
        );
        let made = [
            "apart",
            "apart.manifest.json",
            "drafted",
            "drafted.manifest.json",
        ];
        assert_eq!(files_in(self.segments.path()), made);
        manifest
    }
}

#[test]
fn every_start_gives_the_same_segment_without_reading_again() {
    let mut log = log();
    log.rotate().transaction(3, 1, 20);
    // A server that stopped, and one that was killed: no Rotate leads on.
    log.stop().transaction(4, 2, 30);
    log.crash()
        .transaction(5, 1, 40)
        .query("create table t(i int)");
    let place = Place::of(&log);
    for event in &log.events {
        let manifest = place.same_both_ways(&event.start);
        assert_eq!(manifest.range.to, *log.position(), "{}", event.start);
    }
}

#[test]
fn what_is_behind_the_last_whole_transaction_is_cut_off() {
    let mut log = log();
    // More than a few buffers, an event that is not lent whole, and a whole transaction in one event.
    for n in 3..40 {
        log.transaction(n, 3, 60_000);
    }
    log.transaction(40, 1, 3 << 20);
    let without_tail = Place::of(&log);
    let manifest = without_tail.same_both_ways(&log.events[0].start);
    assert_eq!(manifest.transactions, 40);
    log.event(EventType::TRANSACTION_PAYLOAD, &vec![7; (1 << 20) + 100]);
    let whole = log.position().clone();
    log.query("BEGIN");
    for _ in 0..30 {
        log.event(EventType::WRITE_ROWS, &vec![1; 200_000]);
    }
    let open = log.position().offset;
    log.rotate();
    // What is left of this log: an unfinished transaction, then nothing or the half of an event.
    let first = log.events[0].start.clone();
    for extra in [0, 10] {
        let place = Place::of(&log);
        let logs = place.logs.path();
        let path = logs.join("b.000001");
        std::fs::remove_file(logs.join("b.000002")).unwrap();
        let index = logs.join("b.index");
        if index.exists() {
            std::fs::write(&index, "./b.000001\n").unwrap();
        }
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(open + extra).unwrap();
        let manifest = place.same_both_ways(&first);
        assert_eq!(manifest.range.to, whole);
        assert_eq!(manifest.dropped_bytes, open + extra - whole.offset);
    }
}

#[test]
fn a_log_without_checksums_and_a_change_of_the_setting() {
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, NoChecksum);
    log.transaction(1, 1, 10)
        .rotate_with(Crc32)
        .transaction(2, 1, 10);
    let place = Place::of(&log);
    for event in log.events.iter().take(4) {
        place.same_both_ways(&event.start);
    }
}

#[test]
fn a_draft_that_nobody_writes_leaves_no_file() {
    let mut log = log();
    log.query("BEGIN");
    let place = Place::of(&log);
    let output = place.segment("s");
    let cut = place.drafted(&log.events[0].start, &output);
    assert_eq!(files_in(place.segments.path()), ["s.part"]);
    drop(cut);
    assert!(files_in(place.segments.path()).is_empty());
    // Only a part of a transaction: a file was begun, and goes.
    let tail = log.events.last().unwrap().start.clone();
    let plan = place.open().plan_and_draft(&tail, &output, &mut |_| ());
    match plan.unwrap() {
        CutPlan::Nothing(nothing) => assert_eq!(nothing.reason, NothingReason::OnlyUnfinished),
        CutPlan::Cut(cut) => panic!("{cut:?}"),
    }
    // No boundary.
    let inside = BinlogPosition::new(tail.file.clone(), tail.offset + 1);
    let refused = place.open().plan_and_draft(&inside, &output, &mut |_| ());
    assert!(matches!(refused, Err(LogError::NotABoundary { .. })));
    // Damage in a file with others behind it.
    log.crash().transaction(9, 1, 10);
    let place = Place::of(&log);
    let path = place.logs.path().join("b.000001");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = place
        .open()
        .plan_and_draft(&log.events[0].start, &output, &mut |_| ());
    assert!(matches!(refused, Err(LogError::Corrupt { .. })));
    assert!(files_in(place.segments.path()).is_empty());
}

#[test]
fn another_output_or_an_output_that_fails() {
    let log = log();
    let place = Place::of(&log);
    // A draft for one output is of no use for another one.
    let cut = place.drafted(&log.events[0].start, &place.segment("s"));
    let wanted = cut.write(&place.segment("t"), "test", &mut |_| ()).unwrap();
    assert_eq!(files_in(place.segments.path()), ["t", "t.manifest.json"]);
    // The same plan may be carried out again.
    let again = cut.write(&place.segment("s"), "test", &mut |_| ()).unwrap();
    assert_eq!(again, wanted);
    // The plan is made; whoever wants the segment is told.
    let nowhere = place.segment("no/such/folder");
    let cut = place.drafted(&log.events[0].start, &nowhere);
    assert_eq!(cut.range(), &wanted.range);
    match cut.write(&nowhere, "test", &mut |_| ()) {
        Err(LogError::Io { action, path, .. }) => {
            assert_eq!(
                (action, path),
                ("create", place.segment("no/such/folder.part"))
            );
        }
        other => panic!("{other:?}"),
    }
}
