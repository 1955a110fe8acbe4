//! `take-over`: become the manager of record of a cluster.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::Streams;
use crate::exit_code::ExitCode;
use crate::take_over;

/// Say this only when the other manager is stopped for good: it could hold up the lease of a primary that this one believes
/// to be closed.
#[derive(Debug, Args)]
pub(super) struct TakeOverArgs {
    /// Configuration of the cluster.
    #[arg(long)]
    config: PathBuf,
}

pub(super) fn run(args: TakeOverArgs, streams: &mut Streams<'_>) -> Result<ExitCode, ExitCode> {
    let config = Arc::new(super::load(&args.config, streams)?);
    let runtime = super::runtime(streams)?;
    let manager = config.manager_name.clone();
    match runtime.block_on(take_over::take_over(config)) {
        Ok(said) => {
            // A closed stdout must not change what the command does.
            for sentence in said {
                let _ = writeln!(streams.out, "{sentence}");
            }
            let _ = writeln!(streams.out, "it is of manager {manager} now");
            Ok(ExitCode::Done)
        }
        Err(error) => {
            streams.error(&error);
            Err(error.exit_code())
        }
    }
}
