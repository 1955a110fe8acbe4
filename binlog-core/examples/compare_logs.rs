//! Compares relay logs with the binary log of their primary at every event end, and times a walk.
//!
//!     compare_logs BINLOG_BASENAME RELAY_DIR RELAY_BASE OWNER_SERVER_ID [LATEST]
//!     compare_logs FILE

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // a tool for people

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::time::Instant;

use binlog_core::reader::{EventReader, Step};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [file] => walk(Path::new(file)),
        [basename, dir, base, owner, rest @ ..] => {
            let latest = rest.first().map(|text| text.trim().parse().unwrap());
            let relay = common::relay_logs(Path::new(dir), base, owner.parse().unwrap(), latest);
            let survey = relay.survey().unwrap();
            println!(
                "end {}, whole end {:?}, data end {:?}",
                survey.end,
                survey.whole_end.map(|p| p.to_string()),
                survey.data_end.map(|p| p.to_string())
            );
            survey
                .ranges
                .iter()
                .for_each(|range| println!("held {range}"));
            survey.holes.iter().for_each(|hole| println!("hole {hole}"));
            let scratch = PathBuf::from("/tmp/compare_logs");
            std::fs::create_dir_all(&scratch).unwrap();
            let compared = common::compare(Path::new(basename), &relay, &scratch);
            println!("{} of {} event ends served", compared.served, compared.ends);
        }
        _ => panic!("see the head of this file"),
    }
}

fn walk(path: &Path) {
    let started = Instant::now();
    let mut reader = EventReader::open(path).unwrap();
    let mut events = 0_u64;
    while let Step::Event(_) = reader.step().unwrap() {
        events += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = reader.offset() as f64 / seconds / 1e9;
    println!(
        "{events} events, {} bytes, {seconds:.3} s, {rate:.2} GB/s",
        reader.offset()
    );
}
