//! The start of a replay: local source up, channel pointed at it, threads started.
//!
//! MariaDB replays in GTID mode: by position it would resume after a kill from a file that is written after the commit,
//! and its applier, which starts by itself with the server, would execute a transaction twice before anybody could stop
//! it (seen on 10.11: 1062 after a kill -9 in the middle of a replay; a table without a key takes the row silently). In
//! GTID mode it resumes from `gtid_slave_pos`, which is part of the transaction. Only a server without a
//! `gtid_slave_pos` that the segments know goes by position.

use std::path::PathBuf;
use std::sync::Arc;

use binlog_core::SegmentChain;
use tokio::time::Instant;

use super::channel::{Beside, ChannelRecord, Compression, LOCAL_SOURCE_HOST, Replay};
use super::local::{Control, Local};
use super::relay::{RelayFiles, blocking};
use super::{ReplicationError, change, globals};
use crate::mysqld::dialect::ChangeOption;
use crate::mysqld::variables::Variables;
use crate::mysqld::{Deadline, SqlError};
use crate::source::fault::FaultPlan;
use crate::source::{
    ChainFeed, LocalSource, ReplayAccount, SourceConfig, SourceError, SourceIdentity, SourceLimits,
};

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
    pub(super) identity: SourceIdentity,
    pub(super) faults: FaultPlan,
    pub(super) deadline: Deadline,
}

/// A local source to which the channel is about to be pointed.
struct Opened<'a> {
    local: &'a Local,
    control: &'a mut Control,
    variables: &'a Variables,
    record: &'a mut ChannelRecord,
    replay: Replay,
    running: Running,
    deadline: Deadline,
}

/// A replay under way.
pub(super) struct Running {
    pub(super) source: LocalSource,
    pub(super) feed: Arc<ChainFeed>,
    /// MariaDB: the replica asks by its GTID position.
    pub(super) by_gtid: bool,
    pub(super) began: Instant,
}

/// Opens the local source, and writes down where the channel will point: from then on a crash finds a record that knows both
/// the original and what the channel may point at.
async fn open(start: Start<'_>) -> Result<Opened<'_>, ReplicationError> {
    let Start {
        local,
        control,
        variables,
        record,
        mut replay,
        chain,
        relay_files,
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
    record.replay = Some(replay.clone());
    record.store(&local.state_folder)?;
    globals::quicken(control, variables, deadline).await?;
    protect(local, relay_files).await?;
    let running = Running {
        source,
        feed,
        by_gtid,
        began: Instant::now(),
    };
    Ok(Opened {
        local,
        control,
        variables,
        record,
        replay,
        running,
        deadline,
    })
}

/// Way (c): points the channel at the local source and starts both threads, which must stand still. `damaged`: the replica
/// state needs a reset before the CHANGE.
pub(super) async fn start_both(
    start: Start<'_>,
    damaged: bool,
) -> Result<Running, ReplicationError> {
    let Opened {
        local,
        control,
        variables,
        record,
        replay,
        running,
        deadline,
    } = open(start).await?;
    let options = with_both_stopped(control, record, &replay);
    let original = record.original.as_ref();
    let what = "CHANGE MASTER TO (local source)";
    change::make(control, what, options, original, damaged, deadline).await?;
    if replay.beside.is_some() {
        // What an earlier CHANGE beside the applier left of positions is overwritten, and nothing has run since.
        record.replay = Some(Replay {
            beside: None,
            ..replay
        });
        record.store(&local.state_folder)?;
    }
    // Before the START: with a FILE repository a kill makes 5.6 apply a transaction twice.
    globals::use_table(control, variables, deadline).await?;
    globals::defer_flush(control, variables, deadline).await?;
    if running.by_gtid {
        globals::skip_duplicates(control, variables, deadline).await?;
    }
    let sql = control.dialect.start_both();
    control.session.exec(&sql, deadline.remaining()).await?;
    Ok(running)
}

/// What became of a start beside the applier.
pub(super) enum Started {
    /// The receiver was started, the applier goes on.
    Running(Running),
    /// It was not, and the channel may point at the (closed) local source; why.
    Not(String),
}

/// Ways (a) and (b): points the channel at the local source beside the running applier, and starts the receiver if the
/// applier was not stopped by anything meanwhile and still has its relay log.
pub(super) async fn start_receiver(
    start: Start<'_>,
    beside: &Beside,
) -> Result<Started, ReplicationError> {
    let Opened {
        local,
        control,
        variables,
        record,
        replay,
        running,
        deadline,
    } = open(start).await?;
    let sql = control
        .dialect
        .change(&beside_applier(record, &replay, beside));
    let what = "CHANGE MASTER TO (local source, beside the applier)";
    match control
        .session
        .query(what, &sql, deadline.remaining())
        .await
    {
        Ok(_) => {}
        Err(SqlError::Refused { errno, text, .. }) => {
            running.source.stop().await;
            return Ok(Started::Not(format!("CHANGE answered {errno}: {text}")));
        }
        Err(error) => return Err(error.into()),
    }
    let status = control.replica().await?;
    let files = RelayFiles::of(control, variables).await?;
    let trouble = if !status.applier_running {
        Some("the applier does not run after the CHANGE")
    } else if change::is_damaged(&status, &files) {
        Some("the relay log of the applier is gone after the CHANGE")
    } else if beside.asked.is_some() && status.executed.as_ref() != Some(&replay.from) {
        Some("the executed position is another one after the CHANGE")
    } else {
        None
    };
    if let Some(trouble) = trouble {
        running.source.stop().await;
        return Ok(Started::Not(trouble.to_owned()));
    }
    record.replay = Some(Replay {
        beside: Some(Beside {
            applier_kept: true,
            ..beside.clone()
        }),
        ..replay
    });
    record.store(&local.state_folder)?;
    if !globals::needs_table(variables) {
        globals::defer_flush(control, variables, deadline).await?;
    }
    let sql = control.dialect.start_receiver();
    control.session.exec(&sql, deadline.remaining()).await?;
    Ok(Started::Running(running))
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

/// The options of a CHANGE to the local source that every server takes in every state.
fn to_source(record: &ChannelRecord, replay: &Replay) -> Vec<ChangeOption> {
    let mut options = vec![
        ChangeOption::Host(LOCAL_SOURCE_HOST.to_owned()),
        ChangeOption::Port(replay.port),
        ChangeOption::User(replay.user.clone()),
        ChangeOption::Password(replay.password.clone()),
        ChangeOption::ConnectRetry(1),
        // Loopback: nothing to protect, and the local source has no certificate.
        ChangeOption::Ssl(false),
        ChangeOption::SslVerify(false),
    ];
    if let Some(original) = &record.original {
        if !original.bind.is_empty() {
            options.push(ChangeOption::Bind(String::new()));
        }
        if original.compression.is_some() {
            options.push(ChangeOption::Compression(Compression::NONE.to_owned()));
        }
    }
    options
}

/// The CHANGE with both threads stopped: from the executed position, or by GTID on MariaDB.
fn with_both_stopped(
    control: &Control,
    record: &ChannelRecord,
    replay: &Replay,
) -> Vec<ChangeOption> {
    let mut options = to_source(record, replay);
    options.push(ChangeOption::Delay(0));
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

/// The CHANGE beside a running applier. To name AUTO_POSITION, even with its present value, is refused with 3081, and so is
/// the delay.
fn beside_applier(record: &ChannelRecord, replay: &Replay, beside: &Beside) -> Vec<ChangeOption> {
    let mut options = to_source(record, replay);
    if let Some(asked) = &beside.asked {
        options.push(ChangeOption::LogFile(asked.file.as_str().to_owned()));
        options.push(ChangeOption::LogPos(asked.offset));
    }
    options
}
