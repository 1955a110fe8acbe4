//! The dump: events, format descriptions, heartbeats, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use binlog_core::EventType;
use tokio::time::{Instant, timeout};

use super::client::Response;
use super::fixture::{
    InMemory, assert_description, assert_rotate, assert_summed, at, config, header, transaction,
};
use super::memory_feed::{MemoryFeed, format_description};
use crate::source::feed::Growth;
use crate::source::identity::tests::mysql56;

#[tokio::test(start_paused = true)]
async fn events_arrive_byte_for_byte_over_several_files() {
    let feed = MemoryFeed::starting("bin.999999", true);
    transaction(&feed, 50);
    feed.rotate(true);
    transaction(&feed, 60);
    let stored = feed.stored();
    let end = feed.end().0;
    let source = InMemory::new(config(mysql56(), feed));
    let mut replica = source.dumping(&at("bin.999999:4")).await;
    assert_rotate(&replica.event().await, &at("bin.999999:4"), true);
    for expected in &stored {
        if expected.type_code == EventType::FORMAT_DESCRIPTION {
            if expected.before.file == at("bin.1000000:4").file {
                assert_rotate(&replica.event().await, &at("bin.1000000:4"), true);
            }
            assert_description(&replica.event().await, false);
        } else {
            assert_eq!(
                replica.event().await,
                expected.bytes,
                "at {}",
                expected.before
            );
        }
    }
    let progress = source.progress();
    assert_eq!(progress.last_sent, Some(end));
    assert_eq!(progress.sent_events, stored.len() as u64);
    assert_eq!(progress.asked, [at("bin.999999:4")]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_resumes_inside_a_transaction_with_a_harmless_format_description() {
    let feed = MemoryFeed::starting("bin.000001", true);
    let middle = transaction(&feed, 50);
    let stored = feed.stored();
    let source = InMemory::new(config(mysql56(), feed));
    let mut replica = source.dumping(&middle).await;
    assert_rotate(&replica.event().await, &middle, true);
    assert_description(&replica.event().await, true);
    for expected in stored.iter().filter(|event| event.before >= middle) {
        assert_eq!(replica.event().await, expected.bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_file_that_nobody_stores_is_jumped_over_with_the_position_restated() {
    let feed = MemoryFeed::starting("bin.000001", true);
    feed.skip(40); // Gtid_list
    transaction(&feed, 30);
    feed.skip(43); // Binlog_checkpoint
    let after_hole = feed.end().0;
    transaction(&feed, 30);
    let stored = feed.stored();
    let end = feed.end().0;
    let source = InMemory::new(config(mysql56(), feed));
    let mut replica = source.dumping(&at("bin.000001:4")).await;
    assert_rotate(&replica.event().await, &at("bin.000001:4"), true);
    assert_description(&replica.event().await, false);
    for expected in &stored[1..] {
        if expected.before == after_hole || expected.before == stored[1].before {
            assert_rotate(&replica.event().await, &expected.before, true);
            assert_description(&replica.event().await, true);
        }
        assert_eq!(replica.event().await, expected.bytes);
    }
    let beat = replica.event().await;
    assert_eq!(u64::from(header(&beat).log_pos), end.offset);
    assert_eq!(source.progress().sent_events, stored.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn made_events_follow_the_checksums_of_the_stream_at_each_point() {
    // The source announces CRC32, its first file has none, the second one has.
    let feed = MemoryFeed::starting("bin.000001", false);
    feed.append(EventType::QUERY, b"one");
    feed.rotate(true);
    feed.append(EventType::QUERY, b"two");
    feed.rotate(false);
    let end = feed.end().0;
    let source = InMemory::new(config(mysql56(), feed));
    let mut replica = source.dumping(&at("bin.000001:4")).await;
    assert_rotate(&replica.event().await, &at("bin.000001:4"), true);
    assert_eq!(replica.event().await, {
        let mut expected = format_description(false);
        expected[17] = 0;
        expected
    });
    assert_eq!(replica.event().await.len(), 19 + 3);
    replica.event().await; // the primary's own Rotate
    assert_rotate(&replica.event().await, &at("bin.000002:4"), false);
    replica.event().await;
    assert_summed(&replica.event().await);
    assert_summed(&replica.event().await);
    assert_rotate(&replica.event().await, &at("bin.000003:4"), true);
    replica.event().await;
    let beat = replica.event().await;
    assert_eq!(header(&beat).type_code, EventType::HEARTBEAT);
    assert_eq!(u64::from(header(&beat).log_pos), end.offset);
    assert_eq!(
        &beat[19..],
        b"bin.000003",
        "no checksum after a file without"
    );
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_knows_no_checksums_is_refused_events_that_have_them() {
    let source = InMemory::new(config(mysql56(), MemoryFeed::starting("bin.000001", true)));
    let mut replica = source.replica().await;
    replica.dump("bin.000001", 4, 0).await;
    assert_rotate(&replica.event().await, &at("bin.000001:4"), false);
    let (code, text) = replica.dump_error().await;
    assert_eq!(code, 1236);
    assert!(text.contains("checksums"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_at_the_asked_period_and_the_connection_stays() {
    let feed = MemoryFeed::starting("bin.000001", true);
    transaction(&feed, 10);
    let count = feed.stored().len();
    let end = feed.end().0;
    let source = InMemory::new(config(mysql56(), feed));
    let mut replica = source.dumping(&at("bin.000001:4")).await;
    for _ in 0..=count {
        replica.event().await;
    }
    let start = Instant::now();
    for second in 1..=50 {
        let beat = replica.event().await;
        assert_eq!(header(&beat).type_code, EventType::HEARTBEAT);
        assert_eq!(u64::from(header(&beat).log_pos), end.offset);
        assert_eq!(&beat[19..beat.len() - 4], b"bin.000001");
        assert_summed(&beat);
        assert_eq!(start.elapsed().as_secs(), second);
    }
    assert_eq!(source.progress().heartbeats, 50);
    let mut quiet = source.replica().await;
    quiet.query("SET @master_binlog_checksum='CRC32'").await;
    quiet.dump("bin.000001", end.offset as u32, 0).await;
    quiet.event().await;
    quiet.event().await;
    let silence = timeout(Duration::from_secs(36_000), quiet.read()).await;
    assert!(
        silence.is_err(),
        "no heartbeat was asked for, none comes, and nobody closes"
    );
}

#[tokio::test(start_paused = true)]
async fn events_that_arrive_later_follow_at_once_and_a_failure_is_told() {
    let feed = MemoryFeed::starting("bin.000001", true);
    feed.growth.send_replace(Growth::Growing(0));
    let feed = Arc::new(feed);
    let source = InMemory::new(config(mysql56(), Arc::clone(&feed)));
    let mut replica = source.dumping(&at("bin.000001:4")).await;
    replica.event().await;
    replica.event().await;
    // Longer than any slave_net_timeout: only heartbeats.
    for _ in 0..120 {
        assert_eq!(
            header(&replica.event().await).type_code,
            EventType::HEARTBEAT
        );
    }
    feed.append(EventType::QUERY, b"late");
    let last = feed.stored().pop().unwrap().bytes;
    feed.growth.send_replace(Growth::Growing(1));
    assert_eq!(replica.event().await, last);
    feed.growth
        .send_replace(Growth::Failed("agent of db3 is gone".into()));
    let (code, text) = replica.dump_error().await;
    assert_eq!((code, text.as_str()), (1236, "agent of db3 is gone"));
    // The connection is still good for commands.
    assert_eq!(replica.query("KILL 99").await, Response::Ok);
    assert_eq!(
        source.progress().last_error.as_deref(),
        Some("agent of db3 is gone")
    );
}

#[tokio::test(start_paused = true)]
async fn places_not_held_are_refused_with_the_reason() {
    let mut feed = MemoryFeed::starting("bin.000001", true);
    let middle = transaction(&feed, 50);
    feed.from = middle.clone();
    let end = feed.end().0;
    let source = InMemory::new(config(mysql56(), feed));
    for (file, offset, expected) in [
        ("bin.000001", 4, "the segments cover"),
        ("bin.000001", middle.offset as u32 + 1, "is not held"),
        ("bin.000001", end.offset as u32 + 1, "the segments cover"),
        ("bin.000002", 4, "the segments cover"),
        ("bin.000001", 3, "before offset 4"),
        ("", 4, "no usable binary log file name"),
        ("../etc", 4, "no usable binary log file name"),
    ] {
        let mut replica = source.replica().await;
        replica.dump(file, offset, 0).await;
        let (code, text) = replica.dump_error().await;
        assert_eq!(code, 1236);
        assert!(text.contains(expected), "{file}:{offset}: {text}");
    }
    let mut by_gtid = source.replica().await;
    by_gtid.query("SET @slave_connect_state='0-1-5'").await;
    by_gtid.dump("bin.000001", end.offset as u32, 0).await;
    let refusal = by_gtid.dump_error().await.1;
    assert!(refusal.contains("do not connect to"), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_wait_gets_an_end() {
    let feed = MemoryFeed::starting("bin.000001", true);
    feed.append(EventType::QUERY, b"one");
    let source = InMemory::new(config(mysql56(), feed));
    let mut replica = source.replica().await;
    replica.query("SET @master_binlog_checksum='CRC32'").await;
    replica.dump("bin.000001", 4, 1).await;
    for _ in 0..3 {
        replica.event().await;
    }
    assert_eq!(replica.read().await.unwrap()[0], 0xfe);
    assert_eq!(replica.command(&[0x0e]).await, Response::Ok);
}

#[tokio::test(start_paused = true)]
async fn events_over_16_mib_pass_in_blocks_and_come_back_whole() {
    let mut feed = MemoryFeed::starting("bin.000001", true);
    feed.inline_limit = 4096;
    let header_and_sum = 19 + 4;
    let full = 0xFF_FFFF;
    // Payloads (event and its leading byte) below, at and above the packet limit, and of several packets.
    for payload in [5000, full - 1, full, full + 1, 2 * full, 2 * full + 5000] {
        feed.append(
            EventType::WRITE_ROWS,
            &vec![payload as u8; payload - 1 - header_and_sum],
        );
        feed.append(EventType::XID, b"between");
    }
    let stored = feed.stored();
    let source = InMemory::new(config(mysql56(), feed));
    let mut replica = source.dumping(&at("bin.000001:4")).await;
    replica.event().await;
    replica.event().await;
    for expected in &stored[1..] {
        assert!(
            replica.event().await == expected.bytes,
            "event before {}",
            expected.after
        );
    }
    assert_eq!(source.progress().sent_events, stored.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_breaks_off_closes_the_connection_and_the_next_one_hears_why() {
    let mut feed = MemoryFeed::starting("bin.000001", true);
    feed.inline_limit = 4096;
    feed.break_large_at = Some(600_000);
    feed.append(EventType::WRITE_ROWS, &vec![1; 1_000_000]);
    let source = InMemory::new(config(mysql56(), feed));
    let mut replica = source.dumping(&at("bin.000001:4")).await;
    replica.event().await;
    replica.event().await;
    assert_eq!(replica.read().await, None, "half an event is not an event");
    for _ in 0..2 {
        let mut again = source.dumping(&at("bin.000001:4")).await;
        let (code, text) = again.dump_error().await;
        assert_eq!(code, 1236);
        assert!(text.contains("/segment"), "{text}");
    }
}
