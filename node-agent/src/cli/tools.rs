//! Arguments of the commands on plain files.

use std::path::PathBuf;

use binlog_core::{BinlogFileName, BinlogPosition, ServerId};
use clap::{Args, Subcommand};

use super::Format;
use crate::config::DEFAULT_PATH;

/// Commands on plain files: no server, agent or manager is needed.
#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// Save what a binary log holds from a position on, to the end of its last whole transaction.
    SaveBinaryLogs(SaveArgs),
    /// Find a position of the primary in a replica's relay logs.
    FindRelayLog(FindArgs),
    /// Save what a replica's relay logs hold from a position of the primary on.
    GenerateDiff(GenerateArgs),
    /// Join contiguous segments, binary logs or saved files into one segment.
    Join(JoinArgs),
    /// Show what is in log files: events, transactions, extents, checksums, and how each ends.
    Inspect(InspectArgs),
    /// Replay contiguous segments on a local replica through the local source, and restore its channel, stopped.
    Apply(ApplyArgs),
}

/// Arguments of `save-binary-logs`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Directory of the binary log.
    #[arg(long, value_name = "DIR")]
    pub binlog_dir: PathBuf,
    /// First position to save; its file names the log.
    #[arg(long, value_name = "FILE:POS")]
    pub start: BinlogPosition,
    /// Segment to write, with FILE.manifest.json beside it; neither may exist.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Which relay logs, and from where.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// Directory of the relay logs.
    #[arg(long, value_name = "DIR")]
    pub relay_dir: PathBuf,
    /// Their index file; the files it names are looked for in --relay-dir, whatever directory it gives.
    #[arg(long, value_name = "FILE")]
    pub relay_log_index: PathBuf,
    /// Server id of the replica that owns the relay logs.
    #[arg(long, value_name = "N", value_parser = server_id)]
    pub server_id: ServerId,
    /// Position in the primary's binary log: what the target has.
    #[arg(long, value_name = "FILE:POS")]
    pub target: BinlogPosition,
    /// Position up to which the owner received: nothing behind it is used, and it names the primary's file where the
    /// relay logs do not [default: the end of the relay logs].
    #[arg(long, value_name = "FILE:POS")]
    pub latest: Option<BinlogPosition>,
}

/// Arguments of `find-relay-log`.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// Which relay logs, and from where.
    #[command(flatten)]
    pub relay: RelayArgs,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Arguments of `generate-diff`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Which relay logs, and from where.
    #[command(flatten)]
    pub relay: RelayArgs,
    /// Segment to write, with FILE.manifest.json beside it; neither may exist.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Arguments of `join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Segments in the order of the primary's stream; files without a manifest are walked.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Segment to write, with FILE.manifest.json beside it; neither may exist.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// The primary's file in which the first FILE begins, where it has no manifest and does not say so itself.
    #[arg(long, value_name = "NAME")]
    pub first_file: Option<BinlogFileName>,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Binary logs, relay logs and segments.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Only a verdict, one line for each file.
    #[arg(long, conflicts_with = "events")]
    pub verify: bool,
    /// List every event: offset, type, server id, log_pos, size, flags. As JSON: one object per line and event, then the
    /// one of the whole command.
    #[arg(long)]
    pub events: bool,
    /// The primary's file in which each FILE begins, where neither it nor its name says so.
    #[arg(long, value_name = "NAME")]
    pub first_file: Option<BinlogFileName>,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The replica, as the configuration names it.
    #[arg(long, value_name = "NAME")]
    pub server: String,
    /// Segments in the order of the primary's stream; files without a manifest are walked.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Only say what would be applied.
    #[arg(long)]
    pub dry_run: bool,
    /// The primary's file in which the first FILE begins, where it has no manifest and does not say so itself.
    #[arg(long, value_name = "NAME")]
    pub first_file: Option<BinlogFileName>,
    /// Longest time without progress, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub stall: u64,
    /// Configuration of this host's agent: socket, account and state directory.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

fn server_id(text: &str) -> Result<ServerId, std::num::ParseIntError> {
    text.parse().map(ServerId)
}
