//! Synthetic logs: the worked example of the reference, every way a relay log can be cut up, ends, sizes, settings.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

#[path = "../common/mod.rs"]
mod common;
mod files;
mod gtid_places;
mod random;
mod receivers;
mod sizes;
mod worked_example;

use std::path::Path;

use binlog_core::checksum::ChecksumAlgorithm;
use binlog_core::segment::SegmentChain;
use binlog_core::testing::PrimaryLog;
use binlog_core::{BinlogPosition, CutPlan, RelayFileName, StreamRange};

fn pos(text: &str) -> BinlogPosition {
    text.parse().unwrap()
}

fn range(from: &str, to: &str) -> StreamRange {
    StreamRange::new(pos(from), pos(to))
}

fn first_relay() -> RelayFileName {
    "relay.000001".parse().unwrap()
}

fn write_cut(plan: CutPlan, output: &Path) -> SegmentChain {
    let CutPlan::Cut(cut) = plan else {
        panic!("{plan:?}")
    };
    cut.write(output, "test", &mut |_| ()).unwrap();
    SegmentChain::open(&[output.to_owned()]).unwrap()
}

fn sample(checksum: ChecksumAlgorithm) -> PrimaryLog {
    let mut log = PrimaryLog::new("b.000001".parse().unwrap(), 1, checksum);
    log.query("create table t(i int)")
        .transaction(1, 2, 30)
        .rotate()
        .transaction(2, 1, 50);
    log
}
