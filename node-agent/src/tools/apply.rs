//! `apply`: replays segments on a local replica through the local source, as the agent does in a failover.
//!
//! Everything is checked before the first change: no agent acts on the same state, the replica is no longer connected to
//! a source, no operation of a manager is unfinished, and the files hold what follows the executed position. Then the
//! order of acts is the agent's own (see [`crate::replication::apply`]); the channel record keeps the settings of the
//! channel, which are restored at the end, with both threads left stopped. After a failure in between the record stays:
//! the same command again, or the agent, goes on from it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use binlog_core::{
    BinlogFileName, BinlogPosition, CutPlan, EventBytes, Manifest, SegmentChain,
    checksum::ChecksumAlgorithm, event::FormatDescription,
};
use serde::Serialize;

use super::report::Text;
use super::segment::{self, Nothing};
use super::{Outcome, ToolError};
use crate::agent::LocalServer;
use crate::cli::ApplyArgs;
use crate::config::Config;
use crate::error::Error;
use crate::mysqld::{Alive, Deadline, Receiver, ReplicaStatus};
use crate::replication::{
    self, ApplyOutcome, ApplyRequest, ChannelRecord, ReplicationError, Threads,
};
use crate::source::fault::FaultPlan;
use crate::source::{Flavor, SourceIdentity};
use crate::state::durable;
use crate::state::lock::StateLock;

/// What stands for the operation in the channel record.
const OPERATION: &str = "by-hand";
/// Longest wait for each answer of the replica before the replay.
const ASK: Duration = Duration::from_secs(5);

/// What to apply.
#[derive(Debug, Clone)]
pub struct ApplyByHand {
    /// Configuration of the agent.
    pub config: PathBuf,
    /// The replica's name there.
    pub server: String,
    /// Files in stream order.
    pub files: Vec<PathBuf>,
    /// Names the primary's file in which the first of them begins.
    pub first_file: Option<BinlogFileName>,
    /// Only say what would be applied.
    pub dry_run: bool,
    /// Longest time without progress.
    pub stall: Duration,
}

impl From<ApplyArgs> for ApplyByHand {
    fn from(args: ApplyArgs) -> Self {
        Self {
            config: args.config,
            server: args.server,
            files: args.files,
            first_file: args.first_file,
            dry_run: args.dry_run,
            stall: Duration::from_secs(args.stall),
        }
    }
}

/// What was, or would be, applied.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    /// The replica.
    pub server: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Executed before.
    pub from: BinlogPosition,
    /// Executed after: end of the last whole transaction of the files.
    pub to: BinlogPosition,
    /// Transactions between the two.
    pub transactions: u64,
    /// MySQL `gtid_executed`, MariaDB `gtid_slave_pos`, after.
    pub gtid_executed: Option<String>,
    /// Tables without transactions that a half transaction may have changed twice.
    pub maybe_twice: Vec<String>,
}

/// Applies files.
///
/// # Errors
/// [`ToolError::NotContiguous`], [`ToolError::NotReady`], damaged files, and whatever the replica refuses.
pub fn apply(request: &ApplyByHand) -> Result<Outcome<Applied>, ToolError> {
    let config = Config::load(&request.config).map_err(Error::from)?;
    let server = config
        .server(&request.server)
        .ok_or_else(|| ToolError::UnknownServer {
            server: request.server.clone(),
            config: request.config.clone(),
        })?
        .clone();
    durable::create_private_directory(&config.state_dir).map_err(Error::from)?;
    // Held to the end: an agent that starts meanwhile must not act on the same channel.
    let _lock = StateLock::take(&config.state_dir).map_err(Error::from)?;
    let chain = SegmentChain::open_any(&request.files, request.first_file.as_ref())?;
    let local = LocalServer::open(server, &config.name)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::Setup {
            what: "the runtime",
            source,
        })?;
    runtime.block_on(ByHand { request, local }.run(chain))
}

/// One apply.
struct ByHand<'a> {
    request: &'a ApplyByHand,
    local: LocalServer,
}

impl ByHand<'_> {
    async fn run(&self, chain: SegmentChain) -> Result<Outcome<Applied>, ToolError> {
        let alive = self.ask().await?;
        let status = alive
            .replica
            .as_ref()
            .ok_or_else(|| ReplicationError::NotAReplica {
                server: self.request.server.clone(),
            })?;
        self.check(status)?;
        let executed =
            status
                .executed
                .clone()
                .ok_or_else(|| ReplicationError::ExecutedUnknown {
                    server: self.request.server.clone(),
                })?;
        let (range, until) = (chain.range(), chain.whole_end());
        if executed < range.from {
            return Err(ToolError::NotContiguous {
                server: self.request.server.clone(),
                executed,
                from: range.from,
            });
        }
        if executed >= until {
            return Ok(Outcome::Nothing(Nothing {
                reason: "at_end",
                detail: format!(
                    "{} has executed up to {executed}; the last whole transaction of the files ends at {until}",
                    self.request.server
                ),
                position: executed,
                log_end: None,
            }));
        }
        let mut applied = Applied {
            server: self.request.server.clone(),
            dry_run: self.request.dry_run,
            transactions: chain.transactions_from(&executed)?,
            from: executed,
            to: until,
            gtid_executed: None,
            maybe_twice: Vec::new(),
        };
        if !self.request.dry_run {
            let outcome = self.replay(&alive, status, chain).await?;
            applied.to = outcome.executed_after;
            applied.gtid_executed = Some(outcome.gtid_executed).filter(|gtid| !gtid.is_empty());
            applied.maybe_twice = outcome.maybe_twice;
        }
        Ok(Outcome::Done(applied))
    }

    /// What the replica says of itself.
    async fn ask(&self) -> Result<Box<Alive>, ToolError> {
        let (observed, _) = self.local.observe(ASK).await.map_err(Error::from)?;
        observed
            .sql
            .map_err(|error| ToolError::Replication(error.into()))
    }

    fn not_ready(&self, reason: String) -> ToolError {
        ToolError::NotReady {
            server: self.request.server.clone(),
            reason,
        }
    }

    /// The state of the replica and of earlier operations allows it.
    fn check(&self, status: &ReplicaStatus) -> Result<(), ToolError> {
        let folder = &self.local.config.state_dir;
        let record = ChannelRecord::load(folder).map_err(Error::from)?;
        if let Some(record) = record.filter(|record| record.operation != OPERATION) {
            return Err(self.not_ready(format!(
                "operation {} of a manager is unfinished here ({}); it goes first",
                record.operation,
                folder.join(ChannelRecord::FILE).display()
            )));
        }
        if status.receiver == Receiver::Running {
            return Err(self.not_ready(format!(
                "its receiver is connected to {}:{}: the source lives, or STOP SLAVE IO_THREAD comes first",
                status.source_host, status.source_port
            )));
        }
        Ok(())
    }

    async fn replay(
        &self,
        alive: &Alive,
        status: &ReplicaStatus,
        chain: SegmentChain,
    ) -> Result<ApplyOutcome, ToolError> {
        let source = self.identity(alive, status, &chain)?;
        let until = chain.whole_end();
        let (segments, made) = self.segments(&chain)?;
        let local = self.local.local().map_err(Error::from)?;
        let apply = ApplyRequest {
            operation: OPERATION.to_owned(),
            segments,
            until,
            source,
            standing: None,
            stall: self.request.stall,
            faults: FaultPlan::default(),
        };
        let outcome = replication::apply(&local, &apply, &mut |_| ()).await?;
        replication::undo(
            &local,
            Threads::Stopped,
            Deadline::after(self.request.stall),
        )
        .await?;
        for file in made {
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::warn!(file = %file.display(), %error, "a segment made for the replay stays behind");
            }
        }
        Ok(outcome)
    }

    /// Who the dead primary was: its number, version and checksums by its format description, the rest by its replica.
    fn identity(
        &self,
        alive: &Alive,
        status: &ReplicaStatus,
        chain: &SegmentChain,
    ) -> Result<SourceIdentity, ToolError> {
        let first = chain.events_from(&chain.range().from)?.next().transpose()?;
        let described = first.and_then(|event| match &event.bytes {
            EventBytes::Inline(bytes) => {
                Some((event.header.server_id, FormatDescription::parse(bytes)?))
            }
            EventBytes::Blocks(_) => None,
        });
        let (server_id, description) = described
            .ok_or_else(|| self.not_ready("the files hold no format description".to_owned()))?;
        let mariadb = description.is_mariadb();
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(SourceIdentity {
            server_id: binlog_core::ServerId(server_id),
            server_uuid: text(&status.source_uuid).filter(|_| !mariadb),
            flavor: if mariadb {
                Flavor::MariaDb
            } else {
                Flavor::MySql
            },
            version: description.server_version,
            // A replica demands the mode that it has itself.
            gtid_mode: text(&alive.identity.gtid_mode).filter(|_| !mariadb),
            binlog_checksum: Some(
                match description.checksum {
                    ChecksumAlgorithm::None => "NONE",
                    ChecksumAlgorithm::Crc32 => "CRC32",
                }
                .to_owned(),
            ),
        })
    }

    /// The files as given where each has a manifest; otherwise one segment of them, in the server's state folder: a replay
    /// that breaks off is resumed from it. Gives the files to replay, and those made for it.
    fn segments(&self, chain: &SegmentChain) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ToolError> {
        let files = &self.request.files;
        if files.iter().all(|file| Manifest::path_for(file).exists()) {
            let absolute = files
                .iter()
                .map(|file| {
                    std::path::absolute(file).map_err(|source| ToolError::Output {
                        action: "find",
                        path: file.clone(),
                        source,
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            return Ok((absolute, Vec::new()));
        }
        let path = self.local.config.state_dir.join("by-hand.segment");
        let made = vec![path.clone(), Manifest::path_for(&path)];
        // Left by an earlier try: what is given now counts.
        for file in made.iter().filter(|file| file.exists()) {
            std::fs::remove_file(file).map_err(|source| ToolError::Output {
                action: "remove",
                path: file.clone(),
                source,
            })?;
        }
        if let CutPlan::Cut(cut) = chain.plan_join()? {
            segment::write(&cut, &path, OPERATION, Vec::new(), true)?;
        }
        Ok((vec![path], made))
    }
}

impl Text for Applied {
    fn text(&self, out: &mut String) {
        let act = if self.dry_run {
            "would apply (nothing was changed)"
        } else {
            "applied; the channel is as it was, both threads are stopped"
        };
        let _ = writeln!(out, "server        {}", self.server);
        let _ = writeln!(out, "              {act}");
        let _ = writeln!(out, "from          {}", self.from);
        let _ = writeln!(out, "to            {}", self.to);
        let _ = writeln!(out, "transactions  {}", self.transactions);
        if let Some(gtid) = &self.gtid_executed {
            let _ = writeln!(out, "gtid executed {gtid}");
        }
        for table in &self.maybe_twice {
            let _ = writeln!(out, "maybe twice   {table}");
        }
    }
}
