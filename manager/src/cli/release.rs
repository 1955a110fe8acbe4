//! `release`: let a deposed primary's mysqld start again.

use std::path::PathBuf;

use clap::Args;

use super::Streams;
use crate::exit_code::ExitCode;
use crate::release;

#[derive(Debug, Args)]
pub(super) struct ReleaseArgs {
    /// Configuration of the cluster.
    #[arg(long)]
    config: PathBuf,
    /// The server whose mysqld is held down.
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
}

pub(super) fn run(args: ReleaseArgs, streams: &mut Streams<'_>) -> Result<ExitCode, ExitCode> {
    let config = super::load(&args.config, streams)?;
    let Some(server) = config.find(&args.server) else {
        // A closed stderr must not change what the command does.
        let _ = writeln!(
            streams.err,
            "mha-manager: {} is no server of the configuration",
            args.server
        );
        return Err(ExitCode::Usage);
    };
    let runtime = super::runtime(streams)?;
    match runtime.block_on(release::release_hold(&config, server)) {
        Ok(released) => {
            let what = if released {
                "may start again"
            } else {
                "was not held down"
            };
            let _ = writeln!(streams.out, "mysqld of {} {what}", server.name);
            Ok(ExitCode::Done)
        }
        Err(error) => {
            streams.error(&error);
            Err(error.exit_code())
        }
    }
}
