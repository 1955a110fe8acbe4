//! Random primaries and receivers, and random damage.

use binlog_core::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
use binlog_core::segment::SegmentChain;
use binlog_core::testing::{PrimaryLog, RelayWriter};
use binlog_core::{CutPlan, EventType, RelayLogs, ServerId};
use proptest::prelude::*;

use crate::{common, first_relay, pos, sample};

/// What a random receiver does before an event.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Go,
    Rotate,
    Reconnect,
    RestartAtLastTransaction,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![6 => Just(Act::Go), 2 => Just(Act::Rotate), 2 => Just(Act::Reconnect), 1 => Just(Act::RestartAtLastTransaction)]
}

#[derive(Debug, Clone)]
enum Write {
    Transaction(usize, usize),
    Ddl,
    Rotate(bool),
    Stop,
    Crash,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let one = prop_oneof![
        5 => (0..4_usize, 0..200_usize).prop_map(|(rows, len)| Write::Transaction(rows, len)),
        2 => Just(Write::Ddl),
        1 => any::<bool>().prop_map(Write::Rotate),
        1 => Just(Write::Stop),
        1 => Just(Write::Crash),
    ];
    proptest::collection::vec(one, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the primary wrote and however the receiver cut it up: every event end is located, and the segment from
    /// there holds exactly the primary's events.
    #[test]
    fn every_cut_of_a_random_relay_log_equals_the_primary(writes in writes(), acts in proptest::collection::vec(acts(), 120), keep in 0..3_usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = PrimaryLog::new("b.000009".parse().unwrap(), 1, Crc32);
        for (i, write) in writes.iter().enumerate() {
            match write {
                Write::Transaction(rows, len) => log.transaction(i as u64, *rows, *len),
                Write::Ddl => log.query("create table x(i int)"),
                Write::Rotate(sums) => log.rotate_with(if *sums { Crc32 } else { NoChecksum }),
                Write::Stop => log.stop(),
                Write::Crash => log.crash(),
            };
        }
        let base = log.write_to(dir.path()).unwrap();
        let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
        writer.connect(&log, &log.events[0].start.clone());
        let mut whole = 0;
        let mut i = 0;
        for act in acts.iter().chain(std::iter::repeat(&Act::Go)) {
            let Some(event) = log.events.get(i) else { break };
            let head = event.type_code == EventType::FORMAT_DESCRIPTION;
            match act {
                Act::Rotate if i > 0 => writer.rotate(),
                Act::Reconnect if !head => writer.connect(&log, &event.start),
                Act::RestartAtLastTransaction if whole > 0 && whole < i && !head => {
                    i = whole;
                    writer.connect(&log, &log.events[i].start.clone());
                    whole = 0;
                    continue;
                }
                _ => {}
            }
            writer.receive(&log, event);
            i += 1;
            if event.type_code == EventType::XID && log.events.get(i).is_some_and(|e| e.start.file == event.start.file) {
                whole = i;
            }
        }
        let mut files = writer.write_to(dir.path()).unwrap();
        files.drain(..keep.min(files.len() - 1));
        let relay = RelayLogs::open(files, ServerId(9), Some(log.position().clone())).unwrap();
        let compared = common::compare(&base, &relay, dir.path());
        prop_assert_eq!(compared.served, compared.ends);
        if keep == 0 {
            prop_assert_eq!(compared.ranges.len(), 1, "{:?}", compared.ranges);
            let stops = log.events.iter().filter(|e| e.type_code == EventType::STOP).count();
            prop_assert_eq!(compared.ends, log.events.len() - stops);
        }
    }

    /// Damage anywhere in a relay log: no panic, and nothing is served that the primary did not write.
    #[test]
    fn a_damaged_relay_log_never_serves_what_the_primary_did_not_write(file in 0..3_usize, at in 0.0..1.0_f64, bit in 0..8_u8, cut in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let log = sample(Crc32);
        let mut writer = RelayWriter::new(first_relay(), 9, Crc32);
        writer.connect(&log, &pos("b.000001:4"));
        for (i, event) in log.events.iter().enumerate() {
            if i == 3 {
                writer.rotate();
            }
            writer.receive(&log, event);
        }
        let index = file.min(writer.files.len() - 1);
        let bytes = &mut writer.files[index].1;
        let place = ((bytes.len() - 1) as f64 * at) as usize;
        if cut { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
        let files = writer.write_to(dir.path()).unwrap();
        let base = log.write_to(dir.path()).unwrap();
        let truth = common::truth(&base);
        if let Ok(relay) = RelayLogs::open(files, ServerId(9), None) {
            let survey = relay.survey().unwrap();
            for range in &survey.ranges {
                if let CutPlan::Cut(cut) = relay.plan_cut(range).unwrap() {
                    cut.write(&dir.path().join("s"), "test", &mut |_| ()).unwrap();
                    let chain = SegmentChain::open(&[dir.path().join("s")]).unwrap();
                    prop_assert_eq!(common::streamed(&chain, &range.from), common::expected(&truth, range));
                }
            }
        }
    }
}
