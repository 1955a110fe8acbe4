//! Way (c), right on every server: the applier is halted, the channel pointed at the local source at the *executed*
//! position, and both threads are started.

use binlog_core::{BinlogPosition, MariaDbGtidPos, SegmentChain};
use tokio::time::Instant;

use super::ended::Done;
use super::found::Found;
use super::{Apply, ApplyOutcome, ApplyPhase, ApplyStatus, OnProgress};
use crate::mysqld::status::ReplicaStatus;
use crate::replication::channel::Replay;
use crate::replication::halt::{Halted, halt};
use crate::replication::relay::blocking;
use crate::replication::serve::{self, Start};
use crate::replication::way::Choice;
use crate::replication::{ReplicationError, change, executed, replay};

impl Apply<'_> {
    /// Replays with both threads stopped.
    pub(super) async fn stopped(
        mut self,
        found: Found,
        chain: SegmentChain,
        choice: Choice,
        on_progress: OnProgress<'_>,
    ) -> Result<ApplyOutcome, ReplicationError> {
        let began = Instant::now();
        self.remember_channel().await?;
        // Before the applier may be killed: the error that it then shows is known to be ours.
        self.record.store(&self.local.state_folder)?;
        let deadline = self.deadline();
        let mut halted = halt(
            &mut self.control,
            &self.variables,
            &found.received,
            deadline,
        )
        .await?;
        executed::correct(
            self.local,
            &mut self.control,
            &self.record,
            &mut halted.status,
        )
        .await?;
        let (chain, from, by_gtid) = self.resume_position(&halted.status, chain).await?;
        if from >= self.request.until {
            // It went on between the last look and its stand.
            return self.halted_at_the_end(found, halted, from, choice).await;
        }
        on_progress(ApplyStatus {
            phase: ApplyPhase::Switching,
            executed: Some(from.clone()),
            sent_bytes: 0,
        });
        let damaged = change::is_damaged(&halted.status, &found.files);
        let replay = self.plan_replay(&halted, &from, by_gtid);
        let deadline = self.deadline();
        let start = Start {
            local: self.local,
            control: &mut self.control,
            variables: &self.variables,
            record: &mut self.record,
            replay,
            chain,
            relay_files: found.files.paths(),
            identity: self.request.source.clone(),
            faults: self.request.faults.clone(),
            deadline,
        };
        let running = serve::start_both(start, damaged).await?;
        let switch = began.elapsed();
        let replayed = replay::finish(
            running,
            &mut self.control,
            &self.request.until,
            self.request.stall,
            on_progress,
        )
        .await;
        let replayed = match replayed {
            Ok(replayed) => replayed,
            Err(error) => return Err(self.given_up(error).await),
        };
        let done = Done {
            from,
            switch,
            replayed,
        };
        self.conclude(found, done, choice).await
    }

    /// Where the replay must start: the executed position. MariaDB keeps it in a file that is not part of the
    /// transaction, so there the GTID position, which is, is looked up in the segments.
    async fn resume_position(
        &mut self,
        status: &ReplicaStatus,
        chain: SegmentChain,
    ) -> Result<(SegmentChain, BinlogPosition, bool), ReplicationError> {
        let server = self.local.server();
        let (chain, mapped) = if self.control.dialect.version().is_mariadb() {
            let text = self.control.gtid_executed().await?;
            let executed: MariaDbGtidPos =
                text.parse().map_err(|_| ReplicationError::Contradiction {
                    server: server.to_owned(),
                    what: "@@gtid_slave_pos",
                    expected: "a GTID position".to_owned(),
                    found: text.clone(),
                })?;
            blocking("mapping the GTID position", move || {
                let mapped = chain.position_of_gtid_pos(&executed)?;
                Ok((chain, mapped))
            })
            .await?
        } else {
            (chain, None)
        };
        let by_gtid = mapped.is_some();
        let executed = mapped.or_else(|| status.executed.clone()).ok_or_else(|| {
            ReplicationError::ExecutedUnknown {
                server: server.to_owned(),
            }
        })?;
        let range = chain.range();
        if executed < range.from || executed > range.to {
            return Err(ReplicationError::NotCovered {
                server: server.to_owned(),
                executed,
                from: range.from,
                to: range.to,
            });
        }
        Ok((chain, executed, by_gtid))
    }

    /// The replay's part of the record; without an earlier try its port and account are still open. What an earlier try learnt about the half
    /// transaction stays true.
    fn plan_replay(&self, halted: &Halted, from: &BinlogPosition, by_gtid: bool) -> Replay {
        let earlier = self.record.replay.as_ref();
        let mut maybe_twice = earlier.map_or_else(Vec::new, |replay| replay.maybe_twice.clone());
        maybe_twice.extend(halted.maybe_twice.iter().cloned());
        maybe_twice.sort_unstable();
        maybe_twice.dedup();
        Replay {
            port: earlier.map_or(0, |replay| replay.port),
            user: earlier.map_or_else(String::new, |replay| replay.user.clone()),
            password: earlier.map_or_else(String::new, |replay| replay.password.clone()),
            segments: self.request.segments.clone(),
            from: from.clone(),
            by_gtid,
            until: self.request.until.clone(),
            executed_before: self.executed_before.clone(),
            // Until the CHANGE of this way is made, the channel is as the one before it left it.
            beside: earlier
                .filter(|_| self.record.points_here(&halted.status))
                .and_then(|replay| replay.beside.clone()),
            half_transaction: halted.half_transaction
                || earlier.is_some_and(|replay| replay.half_transaction),
            applier_killed: halted.killed || earlier.is_some_and(|replay| replay.applier_killed),
            maybe_twice,
        }
    }
}
