//! How an apply ends well: nothing was to be replayed, an earlier call's replay is complete, or this one's is.

use std::time::Duration;

use binlog_core::BinlogPosition;

use super::found::Found;
use super::{Apply, ApplyOutcome};
use crate::mysqld::status::ReplicaStatus;
use crate::replication::channel::{Phase, Replay};
use crate::replication::halt::{Halted, halt};
use crate::replication::local::small;
use crate::replication::relay::{RelayFiles, non_transactional};
use crate::replication::replay::Replayed;
use crate::replication::way::{Choice, Way};
use crate::replication::{ReplicationError, globals};

/// A complete replay.
pub(super) struct Done {
    /// Executed position where it started.
    pub(super) from: BinlogPosition,
    /// Time of stop, record, CHANGE, START.
    pub(super) switch: Duration,
    /// How it ended.
    pub(super) replayed: Replayed,
}

impl Apply<'_> {
    /// The end of an apply that left the channel as it was.
    pub(super) async fn nothing_to_replay(
        mut self,
        status: ReplicaStatus,
        drained: Option<&Found>,
    ) -> Result<ApplyOutcome, ReplicationError> {
        let deadline = self.deadline();
        globals::restore_running(&mut self.control, &self.record.saved_globals, deadline).await?;
        // Where nobody holds the rest of a half transaction, what it changed in non-transactional tables stays.
        let tail = match drained {
            Some(drained) => drained.received.tail.clone(),
            None if status.read == status.executed => None,
            None => {
                let files = RelayFiles::of(&mut self.control, &self.variables).await?;
                files.received(&status).await?.tail
            }
        };
        let maybe_twice = match &tail {
            Some(tail) => non_transactional(&mut self.control, tail, small(deadline)).await?,
            None => Vec::new(),
        };
        let executed = status.executed.ok_or(ReplicationError::ExecutedUnknown {
            server: self.local.server().to_owned(),
        })?;
        Ok(ApplyOutcome {
            executed_before: self.executed_before,
            executed_drained: Some(executed.clone()),
            executed_after: executed,
            gtid_executed: self.control.gtid_executed().await?,
            half_transaction: tail.is_some(),
            applier_killed: false,
            applier_started: drained.is_some_and(|drained| drained.started),
            maybe_twice,
            way: None,
            drain: drained.map_or(Duration::ZERO, |drained| drained.took),
            switch: Duration::ZERO,
            replay: Duration::ZERO,
            connections: 0,
        })
    }

    /// The end of a replay that an earlier call had begun, and the server finished.
    pub(super) async fn nothing_left(
        mut self,
        found: Found,
    ) -> Result<ApplyOutcome, ReplicationError> {
        let deadline = self.deadline();
        let halted = halt(
            &mut self.control,
            &self.variables,
            &found.received,
            deadline,
        )
        .await?;
        let executed = halted
            .status
            .executed
            .ok_or_else(|| ReplicationError::ExecutedUnknown {
                server: self.local.server().to_owned(),
            })?;
        let from = self
            .record
            .replay
            .as_ref()
            .map_or_else(|| executed.clone(), |replay| replay.from.clone());
        let replayed = Replayed {
            executed,
            took: Duration::ZERO,
            connections: 0,
        };
        if self.record.replay.as_ref().map(Replay::way) == Some(Way::ByGtid)
            && !self.request.segments.is_empty()
        {
            let chain = self.open_segments(&found).await?;
            self.verify_gtids(chain).await?;
        }
        let way = self
            .record
            .replay
            .as_ref()
            .map_or(Way::Stopped, Replay::way);
        let done = Done {
            from,
            switch: Duration::ZERO,
            replayed,
        };
        let choice = Choice {
            way,
            why: "an earlier call had begun it, and it is complete".to_owned(),
        };
        self.conclude(found, done, choice).await
    }

    /// The end of an apply whose applier reached the end while it was being stopped.
    pub(super) async fn halted_at_the_end(
        self,
        found: Found,
        halted: Halted,
        executed: BinlogPosition,
        choice: Choice,
    ) -> Result<ApplyOutcome, ReplicationError> {
        if self.record.points_here(&halted.status) {
            let replayed = Replayed {
                executed: executed.clone(),
                took: Duration::ZERO,
                connections: 0,
            };
            let done = Done {
                from: executed,
                switch: Duration::ZERO,
                replayed,
            };
            return self.conclude(found, done, choice).await;
        }
        let status = ReplicaStatus {
            executed: Some(executed),
            ..halted.status
        };
        self.nothing_to_replay(status, Some(&found)).await
    }

    pub(super) async fn conclude(
        mut self,
        found: Found,
        done: Done,
        choice: Choice,
    ) -> Result<ApplyOutcome, ReplicationError> {
        let Done {
            from,
            switch,
            replayed,
        } = done;
        let deadline = self.deadline();
        globals::flush_deferred(&mut self.control, &self.record.saved_globals, deadline).await?;
        self.record.phase = Phase::Replayed;
        self.record.store(&self.local.state_folder)?;
        let replay = self.record.replay.as_ref();
        Ok(ApplyOutcome {
            executed_before: self.executed_before,
            executed_drained: Some(from),
            executed_after: replayed.executed,
            gtid_executed: self.control.gtid_executed().await?,
            half_transaction: replay.is_some_and(|replay| replay.half_transaction),
            applier_killed: replay.is_some_and(|replay| replay.applier_killed),
            applier_started: found.started,
            maybe_twice: replay.map_or_else(Vec::new, |replay| replay.maybe_twice.clone()),
            way: Some(choice),
            drain: found.took,
            switch,
            replay: replayed.took,
            connections: replayed.connections,
        })
    }
}
