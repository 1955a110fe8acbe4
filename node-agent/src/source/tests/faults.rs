//! Injected faults, and bytes that are no protocol.

use std::sync::Arc;
use std::time::Duration;

use binlog_core::EventType;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::client::Replica;
use super::fixture::{InMemory, assert_description, at, config, header, transaction};
use super::memory_feed::MemoryFeed;
use crate::source::connection;
use crate::source::fault::{Fault, FaultAction, FaultPlan, FaultPoint};
use crate::source::identity::tests::mysql56;

#[tokio::test(start_paused = true)]
async fn a_replica_cut_every_37_bytes_gets_every_event_once() {
    let feed = MemoryFeed::starting("bin.000001", true);
    transaction(&feed, 20);
    feed.rotate(true);
    transaction(&feed, 20);
    let stored = feed.stored();
    let cuts: Vec<u64> = (1..=400).map(|number| number * 37).collect();
    let mut config = config(mysql56(), feed);
    config.faults = FaultPlan::cut_after_bytes(cuts);
    let source = InMemory::new(config);
    // As a replica does it: whatever arrived whole moves the read position.
    let mut position = at("bin.000001:4");
    let mut received: Vec<Vec<u8>> = Vec::new();
    let end = stored.last().unwrap().after.clone();
    let mut connections = 0;
    while position != end {
        connections += 1;
        assert!(connections < 1000, "no progress at {position}");
        let mut replica = source.dumping(&position).await;
        while position != end {
            let Some(payload) = replica.read().await else {
                break;
            };
            let event = payload[1..].to_vec();
            let header = header(&event);
            match header.type_code {
                EventType::ROTATE => {
                    let body = &event[19..event.len() - 4];
                    position = binlog_core::event::rotate::parse(body).unwrap();
                    if header.flags == 0 {
                        received.push(event);
                    }
                }
                EventType::HEARTBEAT => {}
                EventType::FORMAT_DESCRIPTION => {
                    assert_description(&event, position.offset > 4);
                    position.offset = position.offset.max(u64::from(header.log_pos));
                }
                _ => {
                    position.offset += event.len() as u64;
                    assert_eq!(position.offset, u64::from(header.log_pos));
                    received.push(event);
                }
            }
        }
    }
    let expected: Vec<Vec<u8>> = stored
        .into_iter()
        .filter(|event| event.type_code != EventType::FORMAT_DESCRIPTION)
        .map(|event| event.bytes)
        .collect();
    assert!(received == expected);
    assert!(source.progress().cuts > 10, "{:?}", source.progress());
}

#[tokio::test(start_paused = true)]
async fn stalls_hold_events_back_with_and_without_heartbeats() {
    let feed = MemoryFeed::starting("bin.000001", true);
    for number in 0..6u8 {
        feed.append(EventType::QUERY, &[number]);
    }
    let mut config = config(mysql56(), feed);
    let fault = |events, action| Fault {
        at: FaultPoint::SentEvents(events),
        action,
    };
    config.faults = FaultPlan {
        faults: vec![
            fault(3, FaultAction::Stall(Duration::from_millis(3500))),
            fault(4, FaultAction::Freeze(Duration::from_secs(100))),
            fault(6, FaultAction::Cut),
        ],
    };
    let source = InMemory::new(config);
    let mut replica = source.dumping(&at("bin.000001:4")).await;
    let mut seen = Vec::new();
    while let Some(payload) = replica.read().await {
        seen.push(header(&payload[1..]).type_code);
    }
    let (beat, query) = (EventType::HEARTBEAT, EventType::QUERY);
    let expected = [
        EventType::ROTATE,
        EventType::FORMAT_DESCRIPTION,
        query,
        query,
        beat,
        beat,
        beat,
        query,
        query,
        query,
    ];
    assert_eq!(seen, expected);
    assert_eq!(source.progress().cuts, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a peer sends, before or after it logged in, the connection ends or answers, and nobody panics.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), logged_in in any::<bool>(), framed in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let source = InMemory::new(config(mysql56(), MemoryFeed::starting("bin.000001", true)));
            let (mut ours, theirs) = tokio::io::duplex(1 << 20);
            let served = tokio::spawn(connection::serve(theirs, Arc::clone(&source.shared)));
            let mut sequence = 0;
            if logged_in {
                let mut replica = Replica::log_in(ours, "mha_test", "secret", source.shared.plugin).await.unwrap();
                replica.query("SET @master_binlog_checksum='CRC32'").await;
                ours = replica.stream;
            } else {
                sequence = 1;
            }
            let mut sent = Vec::new();
            if framed {
                crate::source::packet::frame(&bytes, sequence, &mut sent);
            } else {
                sent = bytes;
            }
            ours.write_all(&sent).await.unwrap();
            ours.shutdown().await.unwrap();
            let ended = timeout(Duration::from_secs(60), served).await;
            assert!(matches!(ended, Ok(Ok(_))), "did not end or panicked: {ended:?}");
        });
    }
}
