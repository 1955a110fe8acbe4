//! Stories of a primary and a receiver, made up at random: whatever a jump says, the walk says too.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Receive(usize),
    RotateRelay,
    Reconnect,
    StartAgain(usize),
    Skip(usize),
    Torn(usize),
}

#[derive(Debug, Clone)]
enum Write {
    Transactions(usize, usize),
    Rotate(bool),
    Stop,
    Crash,
}

/// Few files of many transactions, or many files that hold next to nothing.
fn writes(files: u32, transactions: usize) -> impl Strategy<Value = Vec<Write>> {
    let one = prop_oneof![
        6 => (1..transactions, 0..20 * transactions).prop_map(|(n, row)| Write::Transactions(n, row)),
        files => any::<bool>().prop_map(Write::Rotate),
        1 => Just(Write::Stop),
        1 => Just(Write::Crash),
    ];
    proptest::collection::vec(one, 1..8)
}

/// A receiver that goes back as often as `again` says, and takes so many events at once.
fn acts(again: u32, events: usize) -> impl Strategy<Value = Vec<Act>> {
    let one = prop_oneof![
        8 => (1..events).prop_map(Act::Receive),
        4 => Just(Act::RotateRelay),
        2 => Just(Act::Reconnect),
        again => (1..40_usize).prop_map(Act::StartAgain),
        again => (1..12_usize).prop_map(Act::Skip),
        1 => (1..30_usize).prop_map(Act::Torn),
    ];
    // Long stories hold all kinds of damage, short ones end in many ways.
    prop_oneof![
        proptest::collection::vec(one.clone(), 1..40),
        proptest::collection::vec(one, 0..6),
    ]
}

/// Whatever the primary wrote, and however the receiver came by it, holes and cut off files included.
fn compare_random(
    writes: &[Write],
    acts: &[Act],
    drop: usize,
    (told, sums, all): (bool, bool, bool),
) -> Found {
    let dir = tempfile::tempdir().unwrap();
    let checksum = if sums { Crc32 } else { NoChecksum };
    let mut log = PrimaryLog::new(file("b.000009"), 1, checksum);
    for write in writes {
        match write {
            Write::Transactions(n, row) => {
                for i in 0..*n {
                    log.transaction(i as u64, 1, *row);
                }
                &mut log
            }
            Write::Rotate(sums) => log.rotate_with(if *sums { Crc32 } else { NoChecksum }),
            Write::Stop => log.stop(),
            Write::Crash => log.crash(),
        };
    }
    let mut relay = writer(checksum);
    relay.connect(&log, &log.events[0].start.clone());
    let mut stated = log.events[0].start.file.clone();
    let mut next = 0;
    let rest = [Act::Receive(usize::MAX)];
    for act in acts.iter().chain(rest.iter().filter(|_| all)) {
        match act {
            Act::Receive(n) => {
                for event in log.events.iter().skip(next).take(*n) {
                    // No source sends a description before it said of which file.
                    if event.type_code == EventType::FORMAT_DESCRIPTION
                        && event.start.file != stated
                    {
                        relay.connect(&log, &event.start);
                        stated = event.start.file.clone();
                    }
                    relay.receive(&log, event);
                    next += 1;
                }
            }
            Act::RotateRelay => relay.rotate(),
            Act::Reconnect | Act::StartAgain(_) => {
                if let Act::StartAgain(back) = act {
                    next = next.saturating_sub(*back);
                }
                // One that has everything waits at the end.
                let at = log
                    .events
                    .get(next)
                    .map_or(log.position(), |event| &event.start);
                relay.connect(&log, &at.clone());
                stated = at.file.clone();
            }
            Act::Skip(n) => next += n,
            Act::Torn(cut) => {
                if let Some((_, bytes)) = relay.files.last_mut() {
                    bytes.truncate(bytes.len().saturating_sub(*cut).max(4));
                }
                if let Some(event) = log.events.get(next) {
                    relay.connect(&log, &event.start.clone());
                    stated = event.start.file.clone();
                }
            }
        }
    }
    let mut files = write(&relay, dir.path());
    files.drain(..drop.min(files.len() - 1));
    let latest = Some(log.position()).filter(|_| told);
    compare(&files, latest, &targets(&log))
}

#[test]
fn a_lone_description_that_was_repeated_is_where_the_walk_says() {
    let writes = [Write::Stop, Write::Transactions(1, 0)];
    let acts = [
        Act::Receive(4),
        Act::StartAgain(4),
        Act::RotateRelay,
        Act::Receive(3),
        Act::Torn(1),
    ];
    compare_random(&writes, &acts, 0, (false, false, true));
}

fn jumps_say_what_walks_say(
    rng: TestRng,
    writes: impl Strategy<Value = Vec<Write>>,
    acts: impl Strategy<Value = Vec<Act>>,
) -> Found {
    let config = ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let all = RefCell::new(Found::default());
    let case = (writes, acts, 0..4_usize, any::<(bool, bool, bool)>());
    TestRunner::new_with_rng(config, rng)
        .run(&case, |(writes, acts, drop, flags)| {
            let found = compare_random(&writes, &acts, drop, flags);
            all.borrow_mut().add(&found);
            Ok(())
        })
        .unwrap();
    all.into_inner()
}

#[test]
fn a_jump_says_what_the_walk_says() {
    let rng = TestRunner::new(ProptestConfig::default()).new_rng();
    let all = jumps_say_what_walks_say(rng, writes(1, 20), acts(1, 60));
    // Cases that a jump leaves to the walk show nothing about it: of the ends a quarter is told, of the rest three quarters.
    assert!(all.ends.0 > 0, "{all:?}");
    assert!(all.inside.0 * 4 > all.inside.1, "{all:?}");
    assert!(all.jumped * 4 > all.held, "{all:?}");
}

#[test]
fn a_jump_among_many_short_files_says_what_the_walk_says() {
    // The same ones each time.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let all = jumps_say_what_walks_say(rng, writes(8, 4), acts(3, 9));
    assert!(all.inside.0 > 0 && all.jumped > 0, "{all:?}");
}
