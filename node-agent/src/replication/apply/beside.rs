//! Ways (a) and (b): the channel is pointed at the local source while the applier goes on.

use binlog_core::SegmentChain;
use tokio::time::Instant;

use super::ended::Done;
use super::found::Found;
use super::{Apply, ApplyPhase, ApplyStatus, OnProgress};
use crate::replication::channel::{Beside, Replay};
use crate::replication::local::small;
use crate::replication::relay::{blocking, non_transactional};
use crate::replication::serve::{self, Start, Started};
use crate::replication::way::Way;
use crate::replication::{ReplicationError, replay};

/// Why a replay beside the applier did not succeed.
pub(super) enum Failed {
    /// Another way would not help.
    ForGood(ReplicationError),
    /// It may succeed with both threads stopped.
    GoStopped(String),
}

impl From<ReplicationError> for Failed {
    fn from(error: ReplicationError) -> Self {
        Self::ForGood(error)
    }
}

impl Apply<'_> {
    /// Replays beside the running applier.
    pub(super) async fn beside(
        &mut self,
        found: &Found,
        way: Way,
        chain: SegmentChain,
        on_progress: OnProgress<'_>,
    ) -> Result<Done, Failed> {
        let began = Instant::now();
        let (replay, beside) = self.plan_beside(found, way).await?;
        let from = replay.from.clone();
        on_progress(ApplyStatus {
            phase: ApplyPhase::Switching,
            executed: Some(from.clone()),
            sent_bytes: 0,
        });
        self.remember_channel().await?;
        let deadline = self.deadline();
        let start = Start {
            local: self.local,
            control: &mut self.control,
            variables: &self.variables,
            record: &mut self.record,
            replay,
            chain: chain.clone(),
            relay_files: found.files.paths(),
            identity: self.request.source.clone(),
            faults: self.request.faults.clone(),
            deadline,
        };
        let running = match serve::start_receiver(start, &beside).await? {
            Started::Running(running) => running,
            Started::Not(why) => return Err(Failed::GoStopped(why)),
        };
        let switch = began.elapsed();
        let (until, stall) = (&self.request.until, self.request.stall);
        let ended = replay::finish(running, &mut self.control, until, stall, on_progress).await;
        let replayed = match ended {
            Ok(replayed) => replayed,
            Err(error) => return Err(self.classify(error).await),
        };
        if way == Way::ByGtid {
            self.verify_gtids(chain).await?;
        }
        Ok(Done {
            from,
            switch,
            replayed,
        })
    }

    /// The replay's part of the record. In way (a) the part of a transaction that was received is rolled back, and what it
    /// changed without transactions comes again.
    async fn plan_beside(
        &mut self,
        found: &Found,
        way: Way,
    ) -> Result<(Replay, Beside), ReplicationError> {
        let limit = small(self.deadline());
        let tail = found.received.tail.as_ref();
        let mut maybe_twice = match tail {
            Some(tail) if way == Way::ByGtid => {
                non_transactional(&mut self.control, tail, limit).await?
            }
            _ => Vec::new(),
        };
        // Of an earlier try that did not come to its CHANGE; what it learnt stays true.
        let earlier = self.record.replay.as_ref();
        maybe_twice.extend(earlier.iter().flat_map(|replay| replay.maybe_twice.clone()));
        maybe_twice.sort_unstable();
        maybe_twice.dedup();
        let from =
            found
                .status
                .executed
                .clone()
                .ok_or_else(|| ReplicationError::ExecutedUnknown {
                    server: self.local.server().to_owned(),
                })?;
        let beside = Beside {
            asked: found.status.read.clone().filter(|_| way == Way::FromRead),
            applier_kept: false,
        };
        let replay = Replay {
            port: earlier.map_or(0, |replay| replay.port),
            user: earlier.map_or_else(String::new, |replay| replay.user.clone()),
            password: earlier.map_or_else(String::new, |replay| replay.password.clone()),
            segments: self.request.segments.clone(),
            from,
            by_gtid: false,
            until: self.request.until.clone(),
            executed_before: self.executed_before.clone(),
            half_transaction: tail.is_some(),
            applier_killed: earlier.is_some_and(|replay| replay.applier_killed),
            maybe_twice,
            beside: Some(beside.clone()),
        };
        Ok((replay, beside))
    }

    /// A receiver that failed, or an applier that has nothing left to do and is not where it should be, leaves the other way;
    /// an applier that failed does not.
    async fn classify(&mut self, error: ReplicationError) -> Failed {
        match error {
            ReplicationError::ReceiverFailed { .. } => {
                Failed::GoStopped(crate::error::chain(&error))
            }
            ReplicationError::NoProgress { .. } => match self.control.replica().await {
                Ok(status)
                    if status.applier_running
                        && status.applier_state.contains("has read all relay log") =>
                {
                    Failed::GoStopped(crate::error::chain(&error))
                }
                _ => Failed::ForGood(error),
            },
            error => Failed::ForGood(error),
        }
    }

    /// Every transaction of the segments is among those that the server has executed.
    pub(super) async fn verify_gtids(
        &mut self,
        chain: SegmentChain,
    ) -> Result<(), ReplicationError> {
        let all = blocking("reading the GTIDs of the segments", move || {
            Ok(chain.mysql_gtids()?)
        })
        .await?;
        let text = self.control.gtid_executed().await?;
        let missing = match text.parse() {
            Ok(executed) => all.subtract(&executed),
            Err(_) => all,
        };
        if missing.is_empty() {
            return Ok(());
        }
        Err(ReplicationError::Contradiction {
            server: self.local.server().to_owned(),
            what: "@@gtid_executed after the replay",
            expected: format!("{missing} among it"),
            found: text,
        })
    }
}
