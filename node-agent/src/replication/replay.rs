//! The replay itself: local source up, channel pointed at it, threads started, the end awaited.
//!
//! MariaDB replays in GTID mode: by position it would resume after a kill from a file that is written after the commit,
//! and its applier, which starts by itself with the server, would execute a transaction twice before anybody could stop
//! it (seen on 10.11: 1062 after a kill -9 in the middle of a replay; a table without a key takes the row silently). In
//! GTID mode it resumes from `gtid_slave_pos`, which is part of the transaction. Only a server without a
//! `gtid_slave_pos` that the segments know goes by position.
//!
//! If anything goes wrong after START, the receiver is stopped before the local source goes away, so that no server is
//! left knocking at a closed port; a mysqld that died takes the local source with it at once, so that a receiver that
//! comes back with a stale position finds nobody and cannot fetch events twice.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use binlog_core::{BinlogPosition, MariaDbGtidPos, SegmentChain};
use tokio::time::Instant;

use super::apply::{ApplyPhase, ApplyStatus, OnProgress};
use super::channel::{ChannelRecord, LOCAL_SOURCE_HOST, Replay};
use super::drain;
use super::local::{Control, Local};
use super::relay::blocking;
use super::watch::{Seen, Watch};
use super::{ReplicationError, change, globals};
use crate::mysqld::dialect::ChangeOption;
use crate::mysqld::status::{Receiver, ReplicaStatus};
use crate::mysqld::variables::Variables;
use crate::mysqld::{Deadline, SqlError};
use crate::source::fault::FaultPlan;
use crate::source::{
    ChainFeed, EventFeed, LocalSource, ReplayAccount, SourceConfig, SourceError, SourceIdentity,
    SourceLimits,
};

/// Longest wait for the receiver to stop after a failure.
const TIDY_LIMIT: Duration = Duration::from_secs(5);

/// What a replay needs.
pub(super) struct Start<'a> {
    pub(super) local: &'a Local,
    pub(super) control: &'a mut Control,
    pub(super) variables: &'a Variables,
    pub(super) record: &'a mut ChannelRecord,
    /// The plan; its account is kept if it has one, its port if it can be had again.
    pub(super) replay: Replay,
    pub(super) chain: SegmentChain,
    pub(super) relay_files: Vec<PathBuf>,
    /// The replica state needs a reset before the CHANGE.
    pub(super) damaged: bool,
    pub(super) identity: SourceIdentity,
    pub(super) faults: FaultPlan,
    pub(super) deadline: Deadline,
}

/// A replay under way.
pub(super) struct Running {
    source: LocalSource,
    feed: Arc<ChainFeed>,
    by_gtid: bool,
    began: Instant,
}

/// A replay at its end: both threads stand still.
pub(super) struct Replayed {
    pub(super) executed: BinlogPosition,
    pub(super) took: Duration,
    pub(super) connections: u64,
}

/// Starts the local source, points the channel at it and starts both threads, which must stand still.
pub(super) async fn start(start: Start<'_>) -> Result<Running, ReplicationError> {
    let Start {
        local,
        control,
        variables,
        record,
        mut replay,
        chain,
        relay_files,
        damaged,
        identity,
        faults,
        deadline,
    } = start;
    let feed = Arc::new(ChainFeed::of_chain(chain));
    let by_gtid = replay.by_gtid;
    let source = open_source(&replay, &feed, identity, faults).await?;
    replay.port = source.port();
    replay.user = source.account().user.clone();
    replay.password = source.account().password.clone();
    let options = changes(control, record, &replay);
    record.replay = Some(replay);
    // From here on a crash finds a record that knows both the original and what the channel may point at.
    record.store(&local.state_folder)?;
    globals::quicken(control, variables, deadline).await?;
    protect(local, relay_files).await?;
    let began = Instant::now();
    let original = record.original.as_ref();
    let what = "CHANGE MASTER TO (local source)";
    change::make(control, what, options, original, damaged, deadline).await?;
    // Before the START: with a FILE repository a kill makes 5.6 apply a transaction twice.
    globals::use_table(control, variables, deadline).await?;
    globals::defer_flush(control, variables, deadline).await?;
    let sql = control.dialect.start_both();
    control.session.exec(&sql, deadline.remaining()).await?;
    Ok(Running {
        source,
        feed,
        by_gtid,
        began,
    })
}

/// Keeps the relay logs that the next CHANGE deletes.
pub(super) async fn protect(local: &Local, files: Vec<PathBuf>) -> Result<(), ReplicationError> {
    let (keeper, server) = (Arc::clone(&local.protect), local.server().to_owned());
    blocking("keeping relay logs", move || {
        keeper
            .protect(&files)
            .map_err(|source| ReplicationError::Protect { server, source })
    })
    .await
}

async fn open_source(
    replay: &Replay,
    feed: &Arc<ChainFeed>,
    identity: SourceIdentity,
    faults: FaultPlan,
) -> Result<LocalSource, ReplicationError> {
    // The same account in every try: whichever CHANGE a crash left behind, the channel is known to be ours.
    let account = (!replay.user.is_empty()).then(|| ReplayAccount {
        user: replay.user.clone(),
        password: replay.password.clone(),
    });
    let config = |bind_port| SourceConfig {
        identity: identity.clone(),
        bind_port,
        account: account.clone(),
        feed: Arc::clone(feed) as Arc<_>,
        limits: SourceLimits::default(),
        faults: faults.clone(),
    };
    if replay.port != 0 {
        match LocalSource::start(config(Some(replay.port))).await {
            // Taken meanwhile; the CHANGE that follows names the new one.
            Err(SourceError::Bind { .. }) => {}
            started => return Ok(started?),
        }
    }
    Ok(LocalSource::start(config(None)).await?)
}

/// The CHANGE to the local source.
fn changes(control: &Control, record: &ChannelRecord, replay: &Replay) -> Vec<ChangeOption> {
    let mut options = vec![
        ChangeOption::Host(LOCAL_SOURCE_HOST.to_owned()),
        ChangeOption::Port(replay.port),
        ChangeOption::User(replay.user.clone()),
        ChangeOption::Password(replay.password.clone()),
        ChangeOption::ConnectRetry(1),
        ChangeOption::Delay(0),
        // Loopback: nothing to protect, and the local source has no certificate.
        ChangeOption::Ssl(false),
        ChangeOption::SslVerify(false),
    ];
    if record
        .original
        .as_ref()
        .is_some_and(|original| !original.bind.is_empty())
    {
        options.push(ChangeOption::Bind(String::new()));
    }
    if replay.by_gtid {
        options.push(ChangeOption::UseGtid("slave_pos"));
        return options;
    }
    options.push(ChangeOption::LogFile(replay.from.file.as_str().to_owned()));
    options.push(ChangeOption::LogPos(replay.from.offset));
    options.push(if control.dialect.version().is_mariadb() {
        ChangeOption::UseGtid("no")
    } else {
        ChangeOption::AutoPosition(false)
    });
    options
}

/// Waits until `until` is executed, then stops both threads and the local source.
pub(super) async fn finish(
    running: Running,
    control: &mut Control,
    until: &BinlogPosition,
    stall: Duration,
    on_progress: OnProgress<'_>,
) -> Result<Replayed, ReplicationError> {
    let waited = wait(&running.source, control, until, stall, on_progress).await;
    let took = running.began.elapsed();
    let connections = running.source.progress().borrow().connections;
    let ended = match waited {
        Ok(()) => stop_and_verify(&running, control, until, Deadline::after(stall)).await,
        Err(error) => {
            tidy(control, &error).await;
            Err(error)
        }
    };
    running.source.stop().await;
    Ok(Replayed {
        executed: ended?,
        took,
        connections,
    })
}

async fn wait(
    source: &LocalSource,
    control: &mut Control,
    until: &BinlogPosition,
    stall: Duration,
    on_progress: OnProgress<'_>,
) -> Result<(), ReplicationError> {
    let mut watch = Watch::new(stall);
    let progress = source.progress();
    loop {
        let status = control.replica().await?;
        let sent_bytes = progress.borrow().sent_bytes;
        on_progress(ApplyStatus {
            phase: ApplyPhase::Replaying,
            executed: status.executed.clone(),
            sent_bytes,
        });
        if status
            .executed
            .as_ref()
            .is_some_and(|executed| executed >= until)
        {
            return Ok(());
        }
        let complaint = progress.borrow().last_error.clone();
        check_threads(control, &status, complaint.as_deref())?;
        if let Err(waited) = watch.note(Seen::of(&status, sent_bytes)) {
            return Err(match status.receiver {
                Receiver::Connecting => receiver_failure(control, &status, complaint.as_deref()),
                _ => ReplicationError::NoProgress {
                    server: control.session.server().to_owned(),
                    doing: "replaying",
                    waited,
                    executed: status.executed,
                },
            });
        }
        watch.count_work(control).await?;
        watch.pause().await;
    }
}

fn check_threads(
    control: &Control,
    status: &ReplicaStatus,
    complaint: Option<&str>,
) -> Result<(), ReplicationError> {
    if !status.applier_running {
        return Err(drain::failure(control, status).unwrap_or_else(|| {
            ReplicationError::ApplierStopped {
                server: control.session.server().to_owned(),
                executed: status.executed.clone(),
            }
        }));
    }
    if status.receiver == Receiver::Stopped {
        return Err(receiver_failure(control, status, complaint));
    }
    Ok(())
}

/// The receiver's state as a failure; what the local source has to say is part of it.
fn receiver_failure(
    control: &Control,
    status: &ReplicaStatus,
    complaint: Option<&str>,
) -> ReplicationError {
    let (errno, mut text) = status
        .receiver_error
        .as_ref()
        .map_or((0, String::new()), |error| {
            (error.errno, error.text.clone())
        });
    if let Some(complaint) = complaint {
        text.push_str("; local source: ");
        text.push_str(complaint);
    }
    ReplicationError::ReceiverFailed {
        server: control.session.server().to_owned(),
        state: match status.receiver {
            Receiver::Stopped => "stopped",
            Receiver::Connecting => "connecting",
            Receiver::Running => "running",
        },
        errno,
        text,
    }
}

/// Stops both threads. Where the replay went by GTID, the GTID position must say the same as the executed one.
async fn stop_and_verify(
    running: &Running,
    control: &mut Control,
    until: &BinlogPosition,
    deadline: Deadline,
) -> Result<BinlogPosition, ReplicationError> {
    let executed = stop_both(control, until, deadline).await?;
    if !running.by_gtid {
        return Ok(executed);
    }
    let text = control.gtid_executed().await?;
    let feed = Arc::clone(&running.feed);
    let mapped = match text.parse::<MariaDbGtidPos>() {
        Ok(position) => {
            blocking("mapping the GTID position", move || {
                Ok(feed.position_of_gtid_pos(&position)?)
            })
            .await?
        }
        Err(_) => None,
    };
    match mapped {
        Some(mapped) if mapped >= *until => Ok(executed),
        _ => Err(ReplicationError::Contradiction {
            server: control.session.server().to_owned(),
            what: "@@gtid_slave_pos after the replay",
            expected: format!("the position of {until}"),
            found: match mapped {
                Some(mapped) => format!("'{text}', which is {mapped}"),
                None => format!("'{text}', which the segments do not know"),
            },
        }),
    }
}

/// Stops both threads; the executed position is exact then.
async fn stop_both(
    control: &mut Control,
    until: &BinlogPosition,
    deadline: Deadline,
) -> Result<BinlogPosition, ReplicationError> {
    let stop = control.dialect.stop_both();
    control.session.exec(&stop, deadline.remaining()).await?;
    let status = control.replica().await?;
    match status.executed {
        Some(executed) if status.receiver == Receiver::Stopped && !status.applier_running => {
            if &executed < until {
                return Err(ReplicationError::Behind {
                    server: control.session.server().to_owned(),
                    executed: Some(executed),
                    required: until.clone(),
                });
            }
            Ok(executed)
        }
        executed => Err(ReplicationError::Contradiction {
            server: control.session.server().to_owned(),
            what: "replica status after STOP",
            expected: "both threads stopped".to_owned(),
            found: format!(
                "receiver {:?}, applier running: {}, executed {executed:?}",
                status.receiver, status.applier_running
            ),
        }),
    }
}

/// Stops the receiver after a failure, if there is still a server to do it.
async fn tidy(control: &mut Control, error: &ReplicationError) {
    if matches!(error, ReplicationError::Sql(error) if error.lost_connection()) {
        return;
    }
    let stop = control.dialect.stop_receiver();
    let stopped: Result<(), SqlError> = control.session.exec(&stop, TIDY_LIMIT).await;
    if let Err(second) = stopped {
        tracing::warn!(server = control.session.server(), error = %second, "the receiver was not stopped after a failed replay");
    }
}
