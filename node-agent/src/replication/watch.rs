//! Waiting for an applier: how often to look, and when nothing moves any more.

use std::time::Duration;

use tokio::time::Instant;

use super::ReplicationError;
use super::local::Control;
use crate::mysqld::status::ReplicaStatus;

/// How often the applier's own work is counted while its position stands still.
const COUNT_WORK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for such a count.
const COUNT_LIMIT: Duration = Duration::from_secs(5);

/// Tells progress from standstill.
///
/// A position moves at the end of a transaction only, so while it stands still the rows that the server changed are
/// counted: a transaction of an hour makes progress all the time.
#[derive(Debug)]
pub(super) struct Watch {
    limit: Duration,
    began: Instant,
    moved: Instant,
    counted: Instant,
    seen: Option<Seen>,
    rows: Option<u64>,
}

/// What moves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    status: (String, String, String),
    sent_bytes: u64,
}

impl Seen {
    pub(super) fn of(status: &ReplicaStatus, sent_bytes: u64) -> Self {
        let text = |position: Option<String>| position.unwrap_or_default();
        Self {
            status: (
                text(status.read.as_ref().map(ToString::to_string)),
                text(status.executed.as_ref().map(ToString::to_string)),
                text(status.relay.as_ref().map(ToString::to_string)),
            ),
            sent_bytes,
        }
    }
}

impl Watch {
    /// Gives up after `limit` without progress.
    pub(super) fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            limit,
            began: now,
            moved: now,
            counted: now,
            seen: None,
            rows: None,
        }
    }

    /// Notes what was seen; `Err` with the time of standstill once it exceeds the limit.
    pub(super) fn note(&mut self, seen: Seen) -> Result<(), Duration> {
        if self.seen.as_ref() != Some(&seen) {
            self.seen = Some(seen);
            self.moved = Instant::now();
        }
        let still = self.moved.elapsed();
        if still < self.limit {
            Ok(())
        } else {
            Err(still)
        }
    }

    /// Counts changed rows from time to time while nothing else moves.
    pub(super) async fn count_work(
        &mut self,
        control: &mut Control,
    ) -> Result<(), ReplicationError> {
        if self.moved.elapsed() < COUNT_WORK_EVERY || self.counted.elapsed() < COUNT_WORK_EVERY {
            return Ok(());
        }
        let rows = control
            .session
            .query_rows(
                "SHOW GLOBAL STATUS WHERE Variable_name IN \
                 ('Innodb_rows_inserted','Innodb_rows_updated','Innodb_rows_deleted')",
                COUNT_LIMIT,
            )
            .await?;
        let mut sum = 0_u64;
        for row in &rows {
            sum = sum.saturating_add(row.number_if_any("Value")?.unwrap_or(0));
        }
        self.counted = Instant::now();
        if self.rows.replace(sum).is_some_and(|before| before != sum) {
            self.moved = Instant::now();
        }
        Ok(())
    }

    /// Pause before the next look: short at first, since most waits of a failover end within milliseconds.
    pub(super) async fn pause(&self) {
        let pause = match self.began.elapsed().as_millis() {
            0..=300 => 2,
            301..=5_000 => 5,
            _ => 50,
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(executed: &str) -> Seen {
        Seen {
            status: (String::new(), executed.to_owned(), String::new()),
            sent_bytes: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_standstill_counts_against_the_limit() {
        let mut watch = Watch::new(Duration::from_secs(2));
        for position in ["a:1", "a:2", "a:3", "a:4"] {
            tokio::time::advance(Duration::from_millis(1900)).await;
            assert!(watch.note(seen(position)).is_ok(), "{position}");
        }
        tokio::time::advance(Duration::from_millis(2100)).await;
        assert_eq!(watch.note(seen("a:4")), Err(Duration::from_millis(2100)));
    }
}
