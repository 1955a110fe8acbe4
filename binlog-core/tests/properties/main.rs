//! Random logs against a naive model of them.
//!
//! The model knows what the primary wrote and what its receiver was given, by construction: nothing of it is read back
//! from the files. From that follow, event by event, the ranges and holes, the place of every event end, the bytes of
//! every segment. `PROPTEST_CASES` raises the number of cases.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod binary;
mod held;
mod primary;
mod relay;
mod segment;

use std::path::PathBuf;

use binlog_core::checksum::ChecksumAlgorithm::{Crc32, None as NoChecksum};
use binlog_core::segment::SegmentChain;
use binlog_core::{BinaryLogs, BinlogPosition, LogError, StreamRange};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use binary::Left;
use primary::{Flavour, Primary, Write, flavours, writes};
use relay::{Act, Receiver, acts};
use segment::{check, comparable, expected, join, range, write};

/// Segments are synced to disk: where there is memory for them, that costs nothing.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Few cases, always the same ones; as many as asked for, and others each time, with `PROPTEST_CASES`.
fn cases(few: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    let asked = asked.and_then(|n| n.parse().ok());
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: asked.unwrap_or(few),
        rng_seed: match asked {
            Some(_) => default.rng_seed,
            None => RngSeed::Fixed(3),
        },
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..default
    }
}

/// Places in what is held at which an event starts or ends, in order.
fn places(primary: &Primary, held: &[usize], within: &StreamRange) -> Vec<BinlogPosition> {
    let events = || held.iter().map(|&i| &primary.log.events[i]);
    let ends = events().flat_map(|event| [event.start.clone(), event.end.clone()]);
    let mut places: Vec<_> = ends.filter(|place| within.touches(place)).collect();
    places.sort();
    // Between two of them there is an event, or the end of a file.
    places.dedup_by(|next, last| {
        let mut between = events().filter(|event| *last <= event.start && event.start < *next);
        next.file == last.file && between.next().is_none()
    });
    places
}

fn pick(n: prop::sample::Index, places: &[BinlogPosition]) -> BinlogPosition {
    n.get(places).clone()
}

/// Cuts of `within` at three places: each is what the primary wrote, and put together they are the whole again.
fn cut_and_join(
    primary: &Primary,
    held: &[usize],
    within: &StreamRange,
    at: &[prop::sample::Index],
    cut: &dyn Fn(&StreamRange) -> Result<binlog_core::CutPlan, LogError>,
) {
    let dir = scratch();
    let places = places(primary, held, within);
    let mut cuts: Vec<_> = at.iter().map(|&n| pick(n, &places)).collect();
    cuts.sort();
    cuts.dedup();
    let (Some(from), Some(to)) = (cuts.first().cloned(), cuts.last().cloned()) else {
        return;
    };
    if cuts.len() < 2 {
        return;
    }
    let whole = range(&from, &to);
    let file = |name: String| -> PathBuf { dir.path().join(name) };
    let direct = file("direct".to_owned());
    check(primary, held, &whole, cut(&whole).unwrap(), &direct);
    let mut pieces = Vec::new();
    for pair in cuts.windows(2) {
        let part = range(&pair[0], &pair[1]);
        let piece = file(format!("piece{}", pieces.len()));
        check(primary, held, &part, cut(&part).unwrap(), &piece);
        pieces.push(piece);
    }
    let joined = join(&pieces, &file("joined".to_owned()));
    let (wanted, _) = expected(primary, held, &whole);
    assert!(
        comparable(joined) == comparable(wanted),
        "{cuts:?} joined differs"
    );
    // The events that come out of a chain are those that were put in.
    let chain = SegmentChain::open(&pieces).unwrap();
    assert_eq!(chain.range(), whole);
    for place in &cuts {
        let streamed = chain
            .events_from(place)
            .unwrap()
            .map(Result::unwrap)
            .filter(|event| event.takes_place)
            .map(|event| event.header);
        let truth = held.iter().map(|&i| &primary.log.events[i]);
        let truth = truth.filter(|event| *place <= event.start && event.start < to);
        assert!(
            streamed
                .map(|h| (h.type_code, h.event_size))
                .eq(truth.map(|e| (e.type_code, u32::try_from(e.bytes.len()).unwrap()))),
            "events from {place} of {cuts:?}"
        );
    }
    if let [first, .., last] = &pieces[..]
        && pieces.len() > 2
    {
        let gap = SegmentChain::open(&[first.clone(), last.clone()]);
        assert!(matches!(gap, Err(LogError::Gap { .. })), "{gap:?}");
        let overlap = SegmentChain::open(&[first.clone(), first.clone()]);
        assert!(matches!(overlap, Err(LogError::Gap { .. })), "{overlap:?}");
    }
}

/// Everything that can be asked of relay logs.
fn compare_relay(
    primary: &Primary,
    receiver: &Receiver,
    purged: usize,
    at: &[prop::sample::Index],
) {
    let dir = scratch();
    let relay = receiver.open(primary, dir.path(), purged);
    let Some(held) = receiver.held(primary, purged) else {
        for event in &primary.log.events {
            let _ = relay.locate(&event.end);
        }
        assert_eq!(relay.survey().unwrap().last_transaction, None);
        return;
    };
    if receiver.is_undecided(primary, &held) {
        return;
    }
    // By jumps, as nothing was walked yet; then by the map.
    held.compare_places(
        primary,
        &receiver.open(primary, dir.path(), purged),
        receiver,
    );
    let survey = relay.survey().unwrap();
    assert_eq!(survey.ranges, held.ranges);
    assert_eq!(survey.holes, held.holes());
    assert_eq!(
        survey.last_transaction.map(|t| t.end),
        held.whole_end(primary)
    );
    held.compare_places(primary, &relay, receiver);
    for within in &held.ranges {
        cut_and_join(primary, &held.events(), within, at, &|range| {
            relay.plan_cut(range)
        });
    }
    for pair in held.ranges.windows(2) {
        let over = range(&pair[0].from, &pair[1].to);
        let missing = range(&pair[0].to, &pair[1].from);
        let refused = relay.plan_cut(&over);
        let right =
            matches!(&refused, Err(LogError::Hole { missing: found, .. }) if *found == missing);
        assert!(right, "{over}: {refused:?}");
    }
}

fn settings() -> impl Strategy<Value = binlog_core::checksum::ChecksumAlgorithm> {
    prop_oneof![Just(Crc32), Just(NoChecksum)]
}

fn indices(n: usize) -> impl Strategy<Value = Vec<prop::sample::Index>> {
    proptest::collection::vec(any::<prop::sample::Index>(), n)
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_binary_log_cut_off_anywhere_holds_what_is_whole(flavour in flavours(), checksums in any::<bool>(), writes in writes(), part in 0.0..=1.0_f64, at in indices(4)) {
        let primary = Primary::new(flavour, checksums, &writes);
        let dir = scratch();
        let base = primary.log.write_to(dir.path()).unwrap();
        let size = primary.log.position().offset;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let keep = 4 + ((size - 4) as f64 * part) as u64;
        let newest = dir.path().join(primary.log.position().file.as_str());
        std::fs::OpenOptions::new().write(true).open(&newest).unwrap().set_len(keep).unwrap();
        let left = Left::of(&primary, keep);
        let logs = BinaryLogs::open(&base).unwrap();
        binary::compare(&primary, &left, &logs, 5);
        // Cuts that end between transactions.
        let whole = left.whole(&primary);
        if let Some(last) = whole.last() {
            let within = range(&primary.log.events[0].start, last);
            let places = places(&primary, &left.held, &within);
            for (from, to) in [(at[0], at[1]), (at[2], at[3])] {
                let (from, to) = (pick(from, &places), pick(to, &whole));
                if from < to {
                    let wanted = range(&from, &to);
                    let output = dir.path().join("segment");
                    check(&primary, &left.held, &wanted, logs.plan_cut(&from, Some(&to)).unwrap(), &output);
                }
            }
        }
    }

    #[test]
    fn relay_logs_hold_what_the_receiver_was_given(flavour in flavours(), checksums in any::<bool>(), own in settings(), writes in writes(), acts in acts(), part in prop_oneof![Just(1.0), 0.0..1.0_f64], purged in 0..3_usize, at in indices(3)) {
        let primary = Primary::new(flavour, checksums, &writes);
        let mut receiver = Receiver::run(&primary, 0, &acts, own);
        receiver.tear(part);
        let purged = purged.min(receiver.writer.files.len() - 1);
        compare_relay(&primary, &receiver, purged, &at);
    }

    #[test]
    fn pieces_of_two_providers_join_and_a_cut_of_a_cut_is_the_cut(flavour in flavours(), checksums in any::<bool>(), own in settings(), writes in writes(), acts in acts(), at in indices(3)) {
        let acts: Vec<_> = acts.into_iter().filter(|(_, act)| *act != Act::Ignore).collect();
        let primary = Primary::new(flavour, checksums, &writes);
        let dir = scratch();
        let base = primary.log.write_to(dir.path()).unwrap();
        let binary = BinaryLogs::open(&base).unwrap();
        let receiver = Receiver::run(&primary, 0, &acts, own);
        let held = receiver.held(&primary, 0).unwrap();
        let relay = receiver.open(&primary, dir.path(), 0);
        prop_assert_eq!(held.ranges.len(), 1);
        let whole: Vec<_> = primary.transactions.iter().map(|t| primary.log.events[*t.end()].end.clone()).collect();
        let places = places(&primary, &held.events(), &held.ranges[0]);
        let (middle, from) = (pick(at[0], &places), pick(at[1], &places));
        if let Some(to) = whole.last().filter(|to| middle < **to && from < middle) {
            // The receiver's part first, then what the primary has from there on.
            let files = [dir.path().join("one"), dir.path().join("two")];
            check(&primary, &held.events(), &range(&from, &middle), relay.plan_cut(&range(&from, &middle)).unwrap(), &files[0]);
            let all: Vec<_> = (0..primary.log.events.len()).collect();
            check(&primary, &all, &range(&middle, to), binary.plan_cut(&middle, Some(to)).unwrap(), &files[1]);
            let both: Vec<_> = all.iter().copied().filter(|&i| primary.log.events[i].start >= middle || held.stored.contains_key(&i)).collect();
            let (wanted, _) = expected(&primary, &both, &range(&from, to));
            let joined = join(&files, &dir.path().join("joined"));
            prop_assert!(comparable(joined) == comparable(wanted), "{} {} {}", from, middle, to);
            // A cut of a cut: the segment from `middle` on, as the stream that a chain hands out.
            let chain = SegmentChain::open(&[dir.path().join("joined")]).unwrap();
            prop_assert_eq!(chain.range(), range(&from, to));
            prop_assert_eq!(chain.whole_end(), to.clone());
            let again = dir.path().join("again");
            write(chain.plan_join().unwrap(), &again).unwrap();
            prop_assert!(std::fs::read(&again).unwrap() == std::fs::read(dir.path().join("joined")).unwrap());
        }
    }

    #[test]
    fn places_beyond_four_gibibytes_do_not_wrap(flavour in prop_oneof![Just(Flavour::Plain), Just(Flavour::Gtid)], checksums in any::<bool>(), before in 0..600_u64, writes in writes(), acts in acts(), part in prop_oneof![Just(1.0), 0.0..1.0_f64], at in indices(3)) {
        // A receiver does not begin at an event that it does not store.
        let writes: Vec<_> = [Write::Statement { len: 3 }].into_iter().chain(writes).collect();
        let primary = Primary::starting_at(flavour, checksums, Some((1 << 32) - before), &writes);
        let mut receiver = Receiver::run(&primary, 1, &acts, Crc32);
        receiver.tear(part);
        compare_relay(&primary, &receiver, 0, &at);
    }
}
