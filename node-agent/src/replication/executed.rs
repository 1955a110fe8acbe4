//! What a MariaDB server really executed, where its status may be stale.
//!
//! MariaDB keeps the executed position in a file that is written after the commit: after a kill it lags behind, and in
//! GTID mode it may be empty. `gtid_slave_pos` is part of each transaction. While a channel points at a local source,
//! the segments of the record tell what that GTID position means in the dead primary's coordinates.

use binlog_core::{BinlogPosition, MariaDbGtidPos, SegmentChain};

use super::ReplicationError;
use super::channel::ChannelRecord;
use super::relay::blocking;
use crate::mysqld::status::ReplicaStatus;

/// Corrects the executed position of a status from the GTID position, if the record can tell and the status shows less
/// than the whole replay. Segments that are gone correct nothing.
pub(super) async fn correct(
    record: &ChannelRecord,
    status: &mut ReplicaStatus,
) -> Result<(), ReplicationError> {
    let Some(replay) = record.replay.as_ref() else {
        return Ok(());
    };
    let complete = status
        .executed
        .as_ref()
        .is_some_and(|executed| *executed >= replay.until);
    if complete || !replay.by_gtid || !record.points_here(status) {
        return Ok(());
    }
    let Ok(executed) = status.gtid_executed.parse::<MariaDbGtidPos>() else {
        return Ok(());
    };
    let segments = replay.segments.clone();
    let mapped = blocking("mapping the GTID position", move || {
        if !segments.iter().all(|segment| segment.exists()) {
            return Ok(None);
        }
        let chain = SegmentChain::open(&segments)?;
        Ok(chain.position_of_gtid_pos(&executed)?)
    })
    .await?;
    if let Some(mapped) = mapped {
        status.executed = Some(later(status.executed.take(), mapped));
    }
    Ok(())
}

/// A GTID position cannot name what lies behind a transaction (a Rotate): the later one of two truths counts.
fn later(shown: Option<BinlogPosition>, mapped: BinlogPosition) -> BinlogPosition {
    match shown {
        Some(shown) if shown > mapped => shown,
        _ => mapped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_position_counts() {
        let at = |text: &str| -> BinlogPosition { text.parse().unwrap() };
        assert_eq!(later(None, at("b.000001:9")), at("b.000001:9"));
        assert_eq!(
            later(Some(at("b.000001:4")), at("b.000001:9")),
            at("b.000001:9")
        );
        assert_eq!(
            later(Some(at("b.000002:4")), at("b.000001:9")),
            at("b.000002:4")
        );
    }
}
