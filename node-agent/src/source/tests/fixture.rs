//! What the tests share: a source in memory, and checks of made events.

use std::sync::Arc;

use binlog_core::checksum::crc32;
use binlog_core::{BinlogPosition, EventType};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;

use super::client::Replica;
use super::memory_feed::MemoryFeed;
use crate::source::connection;
use crate::source::fault::FaultPlan;
use crate::source::{ReplayAccount, Shared, SourceConfig, SourceIdentity, SourceLimits};

pub(super) fn config(identity: SourceIdentity, feed: impl Into<Arc<MemoryFeed>>) -> SourceConfig {
    SourceConfig {
        identity,
        bind_port: None,
        account: Some(ReplayAccount {
            user: "mha_test".into(),
            password: "secret".into(),
        }),
        feed: feed.into(),
        limits: SourceLimits::default(),
        faults: FaultPlan::default(),
    }
}

/// A local source whose connections are memory, for a paused clock.
pub(super) struct InMemory {
    pub(super) shared: Arc<Shared>,
}

impl InMemory {
    pub(super) fn new(config: SourceConfig) -> Self {
        let account = config.account.clone().unwrap();
        Self {
            shared: Arc::new(Shared::new(config, account, CancellationToken::new())),
        }
    }

    pub(super) fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { connection::serve(theirs, shared).await });
        ours
    }

    pub(super) async fn replica(&self) -> Replica<DuplexStream> {
        let plugin = self.shared.plugin;
        Replica::log_in(self.connect(), "mha_test", "secret", plugin)
            .await
            .unwrap()
    }

    /// A replica that asks for checksums and heartbeats each second, then for the stream.
    pub(super) async fn dumping(&self, at: &BinlogPosition) -> Replica<DuplexStream> {
        let mut replica = self.replica().await;
        replica
            .query("SET @master_heartbeat_period= 1000000000")
            .await;
        replica
            .query("SET @master_binlog_checksum= @@global.binlog_checksum")
            .await;
        replica.dump(at.file.as_str(), at.offset as u32, 0).await;
        replica
    }

    pub(super) fn progress(&self) -> crate::source::SourceProgress {
        self.shared.progress.borrow().clone()
    }
}

pub(super) fn at(text: &str) -> BinlogPosition {
    text.parse().unwrap()
}

pub(super) fn header(event: &[u8]) -> binlog_core::EventHeader {
    binlog_core::EventHeader::parse(event).unwrap()
}

/// Checks an artificial Rotate.
pub(super) fn assert_rotate(event: &[u8], to: &BinlogPosition, checksum: bool) {
    let header = header(event);
    assert_eq!(
        (header.type_code, header.timestamp, header.log_pos),
        (EventType::ROTATE, 0, 0)
    );
    assert_eq!(header.flags, 0x20);
    assert_eq!(header.event_size as usize, event.len());
    let mut body = &event[19..];
    if checksum {
        assert_summed(event);
        body = &body[..body.len() - 4];
    }
    assert_eq!(binlog_core::event::rotate::parse(body), Some(to.clone()));
}

pub(super) fn assert_summed(event: &[u8]) {
    let (content, stored) = event.split_last_chunk::<4>().unwrap();
    assert_eq!(u32::from_le_bytes(*stored), crc32(content));
}

/// Checks a format description of [`format_description`]; `resumes`: asked for from inside the file.
pub(super) fn assert_description(event: &[u8], resumes: bool) {
    let header = header(event);
    assert_eq!(header.type_code, EventType::FORMAT_DESCRIPTION);
    assert_eq!(header.flags & 1, 0, "in-use flag");
    let created = u32::from_le_bytes(event[71..75].try_into().unwrap());
    if resumes {
        assert_eq!((created, header.log_pos), (0, 0));
    } else {
        assert_eq!(
            (created, header.log_pos as usize),
            (1_700_000_000, 4 + event.len())
        );
    }
    assert_summed(event);
}

/// A transaction of several events; returns the place in its middle.
pub(super) fn transaction(feed: &MemoryFeed, payload: usize) -> BinlogPosition {
    feed.append(EventType::QUERY, b"BEGIN");
    feed.append(EventType::TABLE_MAP, b"t");
    let middle = feed.append(EventType::WRITE_ROWS, &vec![7; payload]);
    feed.append(EventType::WRITE_ROWS, &vec![8; payload]);
    feed.append(EventType::XID, &1u64.to_le_bytes());
    middle
}
