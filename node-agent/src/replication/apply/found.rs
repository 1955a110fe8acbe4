//! What an apply finds before it replays: what was received and executed, the segments, the way; and the record of the
//! channel, made before anything is changed.

use std::time::Duration;

use binlog_core::SegmentChain;
use tokio::time::Instant;

use super::{Apply, ApplyPhase, ApplyStatus, OnProgress, has_reached};
use crate::mysqld::status::{ReplicaStatus, UsingGtid};
use crate::mysqld::{Remembered, observe};
use crate::replication::channel::{LOCAL_SOURCE_HOST, OriginalChannel, Phase, REPLAY_USER_PREFIX};
use crate::replication::local::{Local, small};
use crate::replication::relay::{Received, RelayFiles, blocking};
use crate::replication::unblock::Unblock;
use crate::replication::way::{self, Choice, Situation};
use crate::replication::{ReplicationError, change, credentials, drain, executed, globals};
use crate::source::feed::EventFeed as _;
use crate::source::{ChainFeed, by_gtid};

/// A replica whose receiver stands still.
pub(super) struct Found {
    /// Its relay logs.
    pub(super) files: RelayFiles,
    /// What they hold.
    pub(super) received: Received,
    /// Its status.
    pub(super) status: ReplicaStatus,
    /// `until` is executed.
    pub(super) reached: bool,
    /// The applier was started.
    pub(super) started: bool,
    /// Time of the drain.
    pub(super) took: Duration,
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

impl Apply<'_> {
    /// Reads the relay logs of a server that is not to be drained.
    pub(super) async fn look(&mut self) -> Result<Found, ReplicationError> {
        let limit = self.deadline().remaining();
        let mut status = self.control.stop_receiver(limit).await?;
        let files = RelayFiles::of(&mut self.control, &self.variables).await?;
        executed::correct(self.local, &mut self.control, &self.record, &mut status).await?;
        Ok(Found {
            received: files.received(&status).await?,
            files,
            reached: has_reached(&status, &self.request.until),
            status,
            started: false,
            took: Duration::ZERO,
        })
    }

    pub(super) async fn drain(
        &mut self,
        status: ReplicaStatus,
        on_progress: OnProgress<'_>,
    ) -> Result<Found, ReplicationError> {
        let start_loses_relay_logs = self.control.dialect.version().is_mariadb()
            && status.using_gtid != UsingGtid::No
            && !status.applier_running;
        let files = RelayFiles::of(&mut self.control, &self.variables).await?;
        let cannot_start = !status.applier_running && change::is_damaged(&status, &files);
        if !status.delay.is_zero() || start_loses_relay_logs || cannot_start {
            return self.look().await;
        }
        let began = Instant::now();
        let drained = self.drain_now(on_progress).await;
        match drained {
            Ok((files, received, mut drained)) => {
                let status = &mut drained.status;
                executed::correct(self.local, &mut self.control, &self.record, status).await?;
                Ok(Found {
                    files,
                    received,
                    reached: has_reached(status, &self.request.until),
                    status: drained.status,
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
        let unblock = Unblock::new(&self.control, &self.variables, &status, &received);
        let drained = drain::wait(
            &mut self.control,
            &received,
            unblock,
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

    /// Opens and verifies the segments before anything is changed.
    pub(super) async fn open_segments(
        &mut self,
        found: &Found,
    ) -> Result<SegmentChain, ReplicationError> {
        let segments = self.request.segments.clone();
        if segments.is_empty() {
            return Err(ReplicationError::Behind {
                server: self.local.server().to_owned(),
                executed: found.status.executed.clone(),
                required: self.request.until.clone(),
            });
        }
        blocking("opening segments", move || {
            Ok(SegmentChain::open(&segments)?)
        })
        .await
    }

    /// Puts the channel and the settings to be changed into the record, password included. The caller stores it.
    pub(super) async fn remember_channel(&mut self) -> Result<(), ReplicationError> {
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
            let compression = self.control.compression(limit).await?;
            self.record.original = Some(OriginalChannel {
                compression,
                ..OriginalChannel::of(&status, &found, heartbeat)
            });
        }
        self.record.phase = Phase::Replaying;
        Ok(())
    }

    /// Which way the replay goes; `failed` says why one beside the applier was given up.
    pub(super) async fn choose(
        &mut self,
        found: &Found,
        chain: &SegmentChain,
        failed: Option<&str>,
    ) -> Result<Choice, ReplicationError> {
        let status = &found.status;
        let version = self.control.dialect.version();
        let served = if failed.is_none() && version.is_mysql_from(5, 7, 0) {
            served(status, chain.clone()).await?
        } else {
            Err("nobody looked".to_owned())
        };
        Ok(way::choose(&Situation {
            changes_beside_applier: version.is_mysql_from(5, 7, 0),
            points_here: self.record.points_here(status),
            failed,
            delay: status.delay,
            applier_running: status.applier_running,
            relay_log_there: !change::is_damaged(status, &found.files),
            auto_position: status.auto_position,
            source_gtid_mode: self.request.source.gtid_mode.as_deref(),
            applied_in_file: globals::needs_table(&self.variables),
            executed: status.executed.as_ref(),
            read: status.read.as_ref(),
            received: &found.received,
            held: &chain.range(),
            served: &served,
        }))
    }
}

/// Whether the segments can be served as this channel asks.
async fn served(
    status: &ReplicaStatus,
    chain: SegmentChain,
) -> Result<Result<(), String>, ReplicationError> {
    let (auto_position, read, gtids) = (
        status.auto_position,
        status.read.clone(),
        status.gtid_executed.clone(),
    );
    blocking("looking for the place in the segments", move || {
        let feed = ChainFeed::of_chain(chain);
        let opened = if auto_position {
            match gtids.parse() {
                Ok(held) => by_gtid::connects(&feed, &held),
                Err(error) => return Ok(Err(format!("its gtid_executed is unreadable: {error}"))),
            }
        } else {
            match &read {
                Some(read) => feed.open(read).map(drop),
                None => return Ok(Err("its read position is not known".to_owned())),
            }
        };
        Ok(opened.map_err(|error| crate::error::chain(&error)))
    })
    .await
}
