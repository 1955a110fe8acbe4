//! The commands that talk to a running manager: `status`, `stop`, `pause`, `resume`, `ack`, `explain`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use proto::v1;

use super::Streams;
use crate::api::{ApiError, Client};
use crate::daemon::{Expected, Explanation, IfItDied, State};
use crate::exit_code::{Exit, ExitCode};
use crate::facts::Answer;
use crate::guard;

/// Where the manager is.
#[derive(Debug, Args)]
struct Server {
    /// Unix socket of the running manager.
    #[arg(
        long = "server",
        value_name = "FILE",
        default_value = "/var/lib/mha-manager/manager.sock"
    )]
    socket: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Exit status: MHA's state number of the cluster (0 PING_OK, 2 NOT_RUNNING, 10 INITIALIZING_MONITOR, 20 PING_FAILING,
/// 21 PING_FAILED, 30 RETRYING_MONITOR, 31 CONFIG_ERROR, 50 FAILOVER_RUNNING, 51 FAILOVER_ERROR; 1 for an error); of all
/// clusters 0 if all are 0, else 1.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Cluster; all if not given.
    cluster: Option<String>,
    /// Show it again after every change.
    #[arg(long)]
    watch: bool,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// Cluster.
    cluster: String,
    #[command(flatten)]
    server: Server,
}

/// Exit status: 0 if a failover would go on now, 12 if something stands in its way.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Cluster.
    cluster: String,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
pub(super) enum ControlCommand {
    /// How the clusters of the running manager are.
    Status(StatusArgs),
    /// End the running manager; refused while a failover runs.
    Stop(StopArgs),
    /// No failover of a cluster by the manager, until resumed; it survives a restart.
    Pause(ClusterArgs),
    /// End a pause.
    Resume(ClusterArgs),
    /// State that somebody has looked at the earlier failovers of a cluster: they no longer stand in the way of the next.
    Ack(ClusterArgs),
    /// Every precondition of a failover with its evidence, and what would happen if the primary died now.
    Explain(ExplainArgs),
}

pub(super) fn run(command: ControlCommand, streams: &mut Streams<'_>) -> Exit {
    let runtime = match super::runtime(streams) {
        Ok(runtime) => runtime,
        Err(code) => return code.into(),
    };
    let is_status = matches!(command, ControlCommand::Status(_));
    match runtime.block_on(talk(command, streams)) {
        Ok(exit) => exit,
        Err(error) => {
            streams.error(&error);
            match error {
                ApiError::NotRunning { .. } if is_status => Exit::State(State::NotRunning),
                ApiError::Call { status, .. }
                    if status.code() == tonic::Code::FailedPrecondition =>
                {
                    ExitCode::Refused.into()
                }
                ApiError::Call { status, .. }
                    if status.code() == tonic::Code::NotFound && !is_status =>
                {
                    ExitCode::Usage.into()
                }
                _ => ExitCode::Failed.into(),
            }
        }
    }
}

async fn talk(command: ControlCommand, streams: &mut Streams<'_>) -> Result<Exit, ApiError> {
    // A closed stdout must not change what a command does: what was told to the manager is done.
    match command {
        ControlCommand::Status(args) => return status(args, streams).await,
        ControlCommand::Explain(args) => return explain(args, streams).await,
        ControlCommand::Stop(args) => {
            Client::connect(&args.server.socket).await?.stop().await?;
            let _ = writeln!(streams.out, "the manager ends");
        }
        ControlCommand::Pause(args) => {
            let mut client = Client::connect(&args.server.socket).await?;
            client.pause(&args.cluster, &who()).await?;
            let _ = writeln!(streams.out, "{} is paused", args.cluster);
        }
        ControlCommand::Resume(args) => {
            let mut client = Client::connect(&args.server.socket).await?;
            let what = if client.resume(&args.cluster).await? {
                "is no longer paused"
            } else {
                "was not paused"
            };
            let _ = writeln!(streams.out, "{} {what}", args.cluster);
        }
        ControlCommand::Ack(args) => {
            let mut client = Client::connect(&args.server.socket).await?;
            let operations = client.acknowledge(&args.cluster).await?;
            if operations.is_empty() {
                let _ = writeln!(streams.out, "nothing to acknowledge");
            }
            for operation in operations {
                let _ = writeln!(streams.out, "acknowledged {operation}");
            }
        }
    }
    Ok(ExitCode::Done.into())
}

/// The operator, for the record of a pause.
fn who() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "an unnamed user".to_owned())
}

async fn status(args: StatusArgs, streams: &mut Streams<'_>) -> Result<Exit, ApiError> {
    let mut client = Client::connect(&args.server.socket).await?;
    let cluster = args.cluster.as_deref().unwrap_or_default();
    let now = client.status(cluster).await?;
    let mut exit = exit_of(&now, args.cluster.is_some());
    if !args.watch {
        show(&now, args.format, streams);
        return Ok(exit);
    }
    let mut stream = client.watch(cluster).await?;
    loop {
        match stream.message().await {
            Ok(Some(now)) => {
                exit = exit_of(&now, args.cluster.is_some());
                if !show(&now, args.format, streams) {
                    return Ok(exit);
                }
            }
            Ok(None) => return Ok(exit),
            Err(status) => {
                return Err(ApiError::Call {
                    call: "status --watch",
                    status: Box::new(status),
                });
            }
        }
    }
}

fn exit_of(now: &v1::GetStatusResponse, one: bool) -> Exit {
    match now.clusters.as_slice() {
        [cluster] if one => State::ALL
            .into_iter()
            .find(|s| u32::from(s.number()) == cluster.state)
            .map_or(Exit::Manager(ExitCode::Failed), Exit::State),
        all if all.iter().all(|c| c.state == 0) => ExitCode::Done.into(),
        _ => ExitCode::Failed.into(),
    }
}

/// False if nobody reads any more.
fn show(now: &v1::GetStatusResponse, format: Format, streams: &mut Streams<'_>) -> bool {
    let text = match format {
        Format::Json => format!("{}\n", json(now)),
        Format::Text => now.clusters.iter().map(line).collect(),
    };
    write!(streams.out, "{text}")
        .and_then(|()| streams.out.flush())
        .is_ok()
}

fn line(c: &v1::ClusterStatus) -> String {
    let primary = if c.primary.is_empty() {
        String::new()
    } else {
        format!(", primary {}", c.primary)
    };
    let mut text = format!(
        "{} {}:{}{primary}, since {}\n  {}\n",
        c.cluster,
        c.state,
        c.state_name,
        guard::moment(c.since_unix_ms),
        c.sentence
    );
    if let Some(lease) = &c.lease {
        text.push_str(&format!("  lease: {}\n", lease.sentence));
    }
    if !c.blocked.is_empty() {
        text.push_str(&format!("  no failover: {}\n", c.blocked));
    }
    let silent: Vec<&str> = c
        .servers
        .iter()
        .filter(|s| !s.agent_heard)
        .map(|s| s.name.as_str())
        .collect();
    if !silent.is_empty() {
        text.push_str(&format!("  agents not heard: {}\n", silent.join(", ")));
    }
    for sentence in &c.lacking {
        text.push_str(&format!("  by GTIDs: {sentence}\n"));
    }
    for sentence in &c.binlog_servers {
        text.push_str(&format!("  binlog server {sentence}\n"));
    }
    if !c.deposed.is_empty() {
        text.push_str(&format!("  deposed: {}\n", c.deposed.join(", ")));
    }
    text
}

fn json(now: &v1::GetStatusResponse) -> serde_json::Value {
    let clusters: Vec<serde_json::Value> = now
        .clusters
        .iter()
        .map(|c| {
            let servers: Vec<serde_json::Value> = c
                .servers
                .iter()
                .map(|s| {
                    serde_json::json!({
                        "name": s.name, "agent_heard": s.agent_heard, "process": s.process,
                    })
                })
                .collect();
            serde_json::json!({
                "cluster": c.cluster,
                "state": c.state,
                "state_name": c.state_name,
                "primary": c.primary,
                "sentence": c.sentence,
                "since_unix_ms": c.since_unix_ms,
                "paused": c.paused,
                "blocked": c.blocked,
                "deposed": c.deposed,
                "servers": servers,
                "binlog_servers": c.binlog_servers,
                "lease": c.lease.as_ref().map(lease),
                "lacking": c.lacking,
            })
        })
        .collect();
    serde_json::json!({ "pid": now.pid, "clusters": clusters })
}

fn lease(lease: &v1::PrimaryLease) -> serde_json::Value {
    serde_json::json!({
        "state": lease.state,
        "sentence": lease.sentence,
        "since_unix_ms": lease.since_unix_ms,
        "until_unix_ms": lease.until_unix_ms,
        "epoch": lease.epoch,
        "manager": lease.manager,
        "manager_heard": lease.manager_heard,
        "vouching": lease.vouching,
        "agents": lease.agents,
    })
}

async fn explain(args: ExplainArgs, streams: &mut Streams<'_>) -> Result<Exit, ApiError> {
    let mut client = Client::connect(&args.server.socket).await?;
    let json = client.explain(&args.cluster).await?;
    let explanation: Explanation =
        serde_json::from_slice(&json).map_err(|error| ApiError::Call {
            call: "explain",
            status: Box::new(tonic::Status::internal(error.to_string())),
        })?;
    let text = match args.format {
        Format::Json => format!("{}\n", String::from_utf8_lossy(&json)),
        Format::Text => told(&explanation),
    };
    let _ = write!(streams.out, "{text}");
    Ok(
        if matches!(explanation.if_it_died, IfItDied::Promote { .. }) {
            ExitCode::Done.into()
        } else {
            ExitCode::Refused.into()
        },
    )
}

fn told(explanation: &Explanation) -> String {
    let mut text = format!(
        "{}, primary {}, read at {}\n",
        explanation.cluster,
        explanation.primary,
        guard::moment(explanation.read_unix_ms)
    );
    if let Some(lease) = &explanation.lease {
        text.push_str(&format!("  lease: {lease}\n"));
    }
    for condition in &explanation.conditions {
        let mark = match condition.answer {
            Answer::Yes => "yes",
            Answer::No => "NO ",
            Answer::Unknown => "?  ",
        };
        text.push_str(&format!(
            "  {mark}  {}: {}\n",
            condition.name, condition.evidence
        ));
    }
    for remark in &explanation.remarks {
        text.push_str(&format!("  note {remark}\n"));
    }
    if !explanation.gtids.is_empty() {
        text.push_str("received by GTIDs:\n");
    }
    for held in &explanation.gtids {
        text.push_str(&format!("  {}\n", held.sentence));
    }
    text.push_str("if the primary died now:\n");
    match &explanation.if_it_died {
        IfItDied::Refuse { why } => text.push_str(&format!("  no failover: {why}\n")),
        IfItDied::Promote {
            winner,
            rule,
            losers,
            left_aside,
            loss_if_server_died,
            loss_if_host_died,
            time_if_server_died,
            time_if_host_died,
        } => {
            text.push_str(&format!("  new primary: {winner} ({rule})\n"));
            for other in losers {
                text.push_str(&format!("  not {}: {}\n", other.server, other.why));
            }
            for other in left_aside {
                text.push_str(&format!("  left aside {}: {}\n", other.server, other.why));
            }
            text.push_str(&format!("  lost if mysqld dies: {loss_if_server_died}\n"));
            text.push_str(&format!(
                "  lost if its host is gone: {loss_if_host_died}\n"
            ));
            if let Some(semi_sync) = &explanation.semi_sync {
                text.push_str(&format!("  semi-synchronous replication: {semi_sync}\n"));
            }
            text.push_str(&times("if mysqld dies", time_if_server_died));
            text.push_str(&times("if its host is gone", time_if_host_died));
        }
    }
    text
}

/// An expected time with its parts, one a line.
fn times(when: &str, expected: &Expected) -> String {
    let more = if expected.complete {
        ""
    } else {
        "at least, since a part is not known: "
    };
    let mut text = format!(
        "  expected time {when}: {more}{}\n",
        milliseconds(expected.known_ms)
    );
    for part in &expected.parts {
        let time = part.ms.map_or_else(|| "unknown".to_owned(), milliseconds);
        text.push_str(&format!(
            "    {time:>10}  {}: {}\n",
            part.what, part.because
        ));
    }
    text
}

fn milliseconds(ms: u64) -> String {
    format!("{ms} ms")
}
