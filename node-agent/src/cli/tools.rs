//! Arguments of the commands on plain files.

use std::path::PathBuf;

use binlog_core::{BinlogPosition, ServerId};
use clap::{Args, Subcommand};

use super::Format;

/// Commands on plain files: no server, agent or manager is needed.
#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// Save what a binary log holds from a position on, to the end of its last whole transaction.
    SaveBinaryLogs(SaveArgs),
    /// Find a position of the primary in a replica's relay logs.
    FindRelayLog(FindArgs),
    /// Save what a replica's relay logs hold from a position of the primary on.
    GenerateDiff(GenerateArgs),
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

fn server_id(text: &str) -> Result<ServerId, std::num::ParseIntError> {
    text.parse().map(ServerId)
}
