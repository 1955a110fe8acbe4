//! ApplyLogs: bring the server to a position of the dead primary's stream, losing and repeating nothing.
//!
//! The way is (c) of the design, right on every server: drain the applier, halt it, point the channel at the agent's
//! local source at the *executed* position, and let the server replay. The channel record is on disk before the first
//! change, so the way can be resumed by any later operation from wherever it broke off:
//!
//! | found | done |
//! |---|---|
//! | executed is at `until` already, channel untouched | nothing |
//! | channel untouched, or halted by an earlier try | drain (unless halted), halt, replay |
//! | channel points at a local source of an earlier try | halt, read what was executed, replay from there |
//!
//! A delayed replica is not drained, nor is a MariaDB replica in GTID mode whose applier stands still: its START would
//! throw the relay logs away. Both are served from their executed position instead, which the segments then must hold.
//!
//! After success both threads stand still and the channel still points at the (gone) local source, until a promotion,
//! a repoint or an undo.

use std::path::PathBuf;
use std::time::Duration;

use binlog_core::{BinlogPosition, MariaDbGtidPos, SegmentChain};
use tokio::time::Instant;

use super::channel::{
    ChannelRecord, LOCAL_SOURCE_HOST, OriginalChannel, Phase, REPLAY_USER_PREFIX, Replay, Standing,
};
use super::halt::{Halted, halt};
use super::local::{Control, Local, small};
use super::relay::{Received, RelayFiles, blocking, non_transactional};
use super::replay::{self, Replayed};
use super::{ReplicationError, change, credentials, drain, executed, globals, revive};
use crate::mysqld::status::{ReplicaStatus, UsingGtid};
use crate::mysqld::variables::Variables;
use crate::mysqld::{Deadline, Remembered, observe};
use crate::source::SourceIdentity;
use crate::source::fault::FaultPlan;

/// What to replay.
#[derive(Debug, Clone)]
pub struct ApplyRequest {
    /// Operation on whose behalf.
    pub operation: String,
    /// Segments in stream order, contiguous. Empty: drain only.
    pub segments: Vec<PathBuf>,
    /// Executed position to reach: end of the last whole transaction known anywhere.
    pub until: BinlogPosition,
    /// Who the dead primary was.
    pub source: SourceIdentity,
    /// What GTIDs mean in its log: those, and the place before which it holds no other transaction.
    pub standing: Option<(String, BinlogPosition)>,
    /// Longest time without progress, for each wait.
    pub stall: Duration,
    /// Faults of the local source; empty except in tests.
    pub faults: FaultPlan,
}

/// What an apply is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyPhase {
    /// The applier works through what was received.
    Draining,
    /// The applier is stopped and the channel pointed at the local source.
    Switching,
    /// The server replays.
    Replaying,
}

/// Where an apply is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyStatus {
    /// Phase.
    pub phase: ApplyPhase,
    /// Executed position.
    pub executed: Option<BinlogPosition>,
    /// Bytes the local source has sent.
    pub sent_bytes: u64,
}

/// Outcome: the evidence of the proof.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyOutcome {
    /// Executed when the call came (for a resumed replay: when its first call came).
    pub executed_before: Option<BinlogPosition>,
    /// Executed after the drain, where the replay started.
    pub executed_drained: Option<BinlogPosition>,
    /// Executed at the end.
    pub executed_after: BinlogPosition,
    /// MySQL `gtid_executed`, MariaDB `gtid_slave_pos`, at the end.
    pub gtid_executed: String,
    /// The received range ended inside a transaction.
    pub half_transaction: bool,
    /// The applier was killed because of it.
    pub applier_killed: bool,
    /// The applier was found stopped without an error and was started.
    pub applier_started: bool,
    /// Non-transactional tables that a half transaction changed or may have changed: the changes come twice if the
    /// transaction was replayed, and stay although it is lost if nobody held it in full.
    pub maybe_twice: Vec<String>,
    /// Time of the drain.
    pub drain: Duration,
    /// Time of stop, record, CHANGE, START.
    pub switch: Duration,
    /// Time from START until executed.
    pub replay: Duration,
    /// Times the server connected to the local source.
    pub connections: u64,
}

/// Receives progress.
pub type OnProgress<'a> = &'a mut (dyn FnMut(ApplyStatus) + Send);

/// Brings the server to `request.until`.
///
/// # Errors
/// [`ReplicationError::ApplierFailed`] leaves an untouched channel untouched; after any other error a later call goes
/// on where this one ended.
pub async fn apply(
    local: &Local,
    request: &ApplyRequest,
    on_progress: OnProgress<'_>,
) -> Result<ApplyOutcome, ReplicationError> {
    let mut control = local.control(request.stall).await?;
    let mut status = revive::replica(local, &mut control).await?;
    let found = ChannelRecord::load(&local.state_folder)?;
    // An earlier try may have killed the applier: its error is ours then.
    let interrupted = found
        .as_ref()
        .is_some_and(|record| matches!(record.phase, Phase::Replaying | Phase::Repointing));
    let mut record = ChannelRecord::adopt(found, &request.operation, &status);
    let points_here = record.points_here(&status);
    stand(local, &mut control, &mut record, request, &mut status).await?;
    let mut run = Apply {
        local,
        request,
        executed_before: record.replay.as_ref().map_or_else(
            || status.executed.clone(),
            |replay| replay.executed_before.clone(),
        ),
        record,
        variables: Variables::read(&mut control.session, small(run_deadline(request))).await?,
        control,
    };
    if !points_here {
        if !status.applier_running
            && !interrupted
            && let Some(failure) = drain::failure(&run.control, &status)
        {
            return Err(failure);
        }
        if has_reached(&status, &request.until) {
            return run.nothing_to_replay(status, None).await;
        }
    }
    let drained = if points_here || (interrupted && !status.applier_running) {
        run.skip_drain().await?
    } else {
        run.drain(status, on_progress).await?
    };
    match &drained.reached {
        Some(status) if !points_here => {
            let status = status.clone();
            run.nothing_to_replay(status, Some(&drained)).await
        }
        Some(_) => run.nothing_left(drained).await,
        None => run.replay(drained, on_progress).await,
    }
}

/// Notes what the GTIDs of this server mean, durably: promotion and repoint look for it, too.
async fn stand(
    local: &Local,
    control: &mut Control,
    record: &mut ChannelRecord,
    request: &ApplyRequest,
    status: &mut ReplicaStatus,
) -> Result<(), ReplicationError> {
    let source = match &record.original {
        Some(original) => (original.host.clone(), original.port),
        None => (status.source_host.clone(), status.source_port),
    };
    let standing = request.standing.as_ref().map(|(gtids, position)| Standing {
        source_host: source.0,
        source_port: source.1,
        gtids: gtids.clone(),
        position: position.clone(),
    });
    if record.standing != standing {
        record.standing = standing;
        record.store(&local.state_folder)?;
    }
    if record.standing.is_some() {
        executed::correct(local, control, record, status).await?;
    }
    Ok(())
}

/// A channel that points at a local source without a record of its original must not become its own original.
fn refuse_local_source(local: &Local, status: &ReplicaStatus) -> Result<(), ReplicationError> {
    if status.source_host == LOCAL_SOURCE_HOST && status.source_user.starts_with(REPLAY_USER_PREFIX)
    {
        return Err(ReplicationError::Contradiction {
            server: local.server().to_owned(),
            what: "the channel's source",
            expected: "the dead primary, or a local source with a record of the original"
                .to_owned(),
            found: format!(
                "local source {}@{}:{} without a record",
                status.source_user, status.source_host, status.source_port
            ),
        });
    }
    Ok(())
}

fn run_deadline(request: &ApplyRequest) -> Deadline {
    Deadline::after(request.stall)
}

fn has_reached(status: &ReplicaStatus, until: &BinlogPosition) -> bool {
    status
        .executed
        .as_ref()
        .is_some_and(|executed| executed >= until)
}

/// One apply.
struct Apply<'a> {
    local: &'a Local,
    request: &'a ApplyRequest,
    control: Control,
    variables: Variables,
    record: ChannelRecord,
    executed_before: Option<BinlogPosition>,
}

/// State after the drain.
struct AfterDrain {
    files: RelayFiles,
    received: Received,
    /// Status, if `until` is executed.
    reached: Option<ReplicaStatus>,
    started: bool,
    took: Duration,
}

impl Apply<'_> {
    fn deadline(&self) -> Deadline {
        run_deadline(self.request)
    }

    /// Reads the relay logs of a server that is not to be drained.
    async fn skip_drain(&mut self) -> Result<AfterDrain, ReplicationError> {
        let limit = self.deadline().remaining();
        let mut status = self.control.stop_receiver(limit).await?;
        let files = RelayFiles::of(&mut self.control, &self.variables).await?;
        executed::correct(self.local, &mut self.control, &self.record, &mut status).await?;
        Ok(AfterDrain {
            received: files.received(&status).await?,
            files,
            reached: has_reached(&status, &self.request.until).then_some(status),
            started: false,
            took: Duration::ZERO,
        })
    }

    async fn drain(
        &mut self,
        status: ReplicaStatus,
        on_progress: OnProgress<'_>,
    ) -> Result<AfterDrain, ReplicationError> {
        let start_loses_relay_logs = self.control.dialect.version().is_mariadb()
            && status.using_gtid != UsingGtid::No
            && !status.applier_running;
        let files = RelayFiles::of(&mut self.control, &self.variables).await?;
        let cannot_start = !status.applier_running && change::is_damaged(&status, &files);
        if !status.delay.is_zero() || start_loses_relay_logs || cannot_start {
            return self.skip_drain().await;
        }
        let began = Instant::now();
        let drained = self.drain_now(on_progress).await;
        match drained {
            Ok((files, received, mut drained)) => {
                let status = &mut drained.status;
                executed::correct(self.local, &mut self.control, &self.record, status).await?;
                Ok(AfterDrain {
                    files,
                    received,
                    reached: has_reached(status, &self.request.until).then_some(drained.status),
                    started: drained.started,
                    took: began.elapsed(),
                })
            }
            Err(error) => {
                // Left as it was found; the error that counts is the first one.
                let deadline = self.deadline();
                let saved = &self.record.saved_globals;
                if let Err(second) =
                    globals::restore_running(&mut self.control, saved, deadline).await
                {
                    tracing::warn!(server = self.local.server(), error = %second, "settings were not restored after a failed drain");
                }
                Err(error)
            }
        }
    }

    async fn drain_now(
        &mut self,
        on_progress: OnProgress<'_>,
    ) -> Result<(RelayFiles, Received, drain::Drained), ReplicationError> {
        let deadline = self.deadline();
        let status = self.control.stop_receiver(deadline.remaining()).await?;
        if self.variables.parallel_workers() > 0 {
            globals::remember(&mut self.record, &self.variables);
            self.record.store(&self.local.state_folder)?;
            globals::quicken(&mut self.control, &self.variables, deadline).await?;
        }
        let files = RelayFiles::of(&mut self.control, &self.variables).await?;
        let started = drain::start_if_stopped(&mut self.control, &status).await?;
        // The applier works while its relay logs are read.
        let received = files.received(&status).await?;
        let drained = drain::wait(
            &mut self.control,
            &received,
            self.request.stall,
            started,
            &mut |executed| {
                on_progress(ApplyStatus {
                    phase: ApplyPhase::Draining,
                    executed: executed.cloned(),
                    sent_bytes: 0,
                });
            },
        )
        .await?;
        Ok((files, received, drained))
    }

    /// The end of an apply that left the channel as it was.
    async fn nothing_to_replay(
        mut self,
        status: ReplicaStatus,
        drained: Option<&AfterDrain>,
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
            drain: drained.map_or(Duration::ZERO, |drained| drained.took),
            switch: Duration::ZERO,
            replay: Duration::ZERO,
            connections: 0,
        })
    }

    /// The end of a replay that an earlier call had begun, and the server finished.
    async fn nothing_left(mut self, drained: AfterDrain) -> Result<ApplyOutcome, ReplicationError> {
        let deadline = self.deadline();
        let halted = halt(
            &mut self.control,
            &self.variables,
            &drained.received,
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
        self.conclude(drained, from, Duration::ZERO, replayed).await
    }

    async fn replay(
        mut self,
        drained: AfterDrain,
        on_progress: OnProgress<'_>,
    ) -> Result<ApplyOutcome, ReplicationError> {
        let began = Instant::now();
        let chain = self.open_segments(&drained).await?;
        self.remember_channel().await?;
        let deadline = self.deadline();
        let mut halted = halt(
            &mut self.control,
            &self.variables,
            &drained.received,
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
            return self.halted_at_the_end(drained, halted, from).await;
        }
        on_progress(ApplyStatus {
            phase: ApplyPhase::Switching,
            executed: Some(from.clone()),
            sent_bytes: 0,
        });
        let damaged = change::is_damaged(&halted.status, &drained.files);
        let replay = self.plan_replay(&halted, &from, by_gtid);
        let deadline = self.deadline();
        let running = replay::start(replay::Start {
            local: self.local,
            control: &mut self.control,
            variables: &self.variables,
            record: &mut self.record,
            replay,
            chain,
            relay_files: drained.files.paths(),
            damaged,
            identity: self.request.source.clone(),
            faults: self.request.faults.clone(),
            deadline,
        })
        .await?;
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
            Err(error) => {
                // Nobody knows when a later call goes on; the error that counts is the first one.
                let deadline = self.deadline();
                let saved = &self.record.saved_globals;
                if let Err(second) =
                    globals::flush_deferred(&mut self.control, saved, deadline).await
                {
                    tracing::warn!(server = self.local.server(), error = %second, "commits are not as durable as they were set to be");
                }
                return Err(error);
            }
        };
        self.conclude(drained, from, switch, replayed).await
    }

    /// The end of an apply whose applier reached the end while it was being stopped.
    async fn halted_at_the_end(
        self,
        drained: AfterDrain,
        halted: Halted,
        executed: BinlogPosition,
    ) -> Result<ApplyOutcome, ReplicationError> {
        if self.record.points_here(&halted.status) {
            let replayed = Replayed {
                executed: executed.clone(),
                took: Duration::ZERO,
                connections: 0,
            };
            return self
                .conclude(drained, executed, Duration::ZERO, replayed)
                .await;
        }
        let status = ReplicaStatus {
            executed: Some(executed),
            ..halted.status
        };
        self.nothing_to_replay(status, Some(&drained)).await
    }

    async fn conclude(
        mut self,
        drained: AfterDrain,
        from: BinlogPosition,
        switch: Duration,
        replayed: Replayed,
    ) -> Result<ApplyOutcome, ReplicationError> {
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
            applier_started: drained.started,
            maybe_twice: replay.map_or_else(Vec::new, |replay| replay.maybe_twice.clone()),
            drain: drained.took,
            switch,
            replay: replayed.took,
            connections: replayed.connections,
        })
    }

    /// Opens and verifies the segments before anything is changed.
    async fn open_segments(
        &mut self,
        drained: &AfterDrain,
    ) -> Result<SegmentChain, ReplicationError> {
        let segments = self.request.segments.clone();
        if segments.is_empty() {
            let executed = match &drained.reached {
                Some(status) => status.executed.clone(),
                None => self.control.replica().await?.executed,
            };
            return Err(ReplicationError::Behind {
                server: self.local.server().to_owned(),
                executed,
                required: self.request.until.clone(),
            });
        }
        blocking("opening segments", move || {
            Ok(SegmentChain::open(&segments)?)
        })
        .await
    }

    /// Puts the channel and the settings to be changed on disk, password included.
    async fn remember_channel(&mut self) -> Result<(), ReplicationError> {
        let limit = small(self.deadline());
        globals::remember(&mut self.record, &self.variables);
        if self.record.original.is_none() {
            let status = self.control.replica().await?;
            refuse_local_source(self.local, &status)?;
            let session = &mut self.control.session;
            let files = match Remembered::load(&self.local.state_folder) {
                Ok(Some(known)) => known,
                // Never observed, or damaged: the living server says it again.
                _ => observe::read(session, limit).await?.remembered,
            };
            let found =
                credentials::find(self.local, session, &status, &self.variables, &files, limit)
                    .await?;
            let heartbeat = self.control.heartbeat_period(limit).await?;
            self.record.original = Some(OriginalChannel::of(&status, &found, heartbeat));
        }
        self.record.phase = Phase::Replaying;
        self.record.store(&self.local.state_folder)?;
        Ok(())
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
            half_transaction: halted.half_transaction
                || earlier.is_some_and(|replay| replay.half_transaction),
            applier_killed: halted.killed || earlier.is_some_and(|replay| replay.applier_killed),
            maybe_twice,
        }
    }
}
