//! `check-hooks`: what MHA's manager does with its scripts when it starts, before anything has happened.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Streams;
use crate::exit_code::ExitCode;
use crate::hooks;
use crate::topology::Refusal;

/// Exit codes: 0 all configured hooks can be used; 2 usage or configuration; 12 one cannot.
#[derive(Debug, Args)]
pub(super) struct CheckHooksArgs {
    /// Configuration of the cluster.
    #[arg(long)]
    config: PathBuf,
    /// The primary of this moment: scripts are told about it.
    #[arg(long, value_name = "HOST:PORT")]
    primary: String,
}

pub(super) fn run(args: CheckHooksArgs, streams: &mut Streams<'_>) -> Result<ExitCode, ExitCode> {
    let config = super::load(&args.config, streams)?;
    let Some(primary) = config.find(&args.primary) else {
        streams.error(&Refusal::NotConfigured {
            wanted: args.primary,
        });
        return Err(ExitCode::Usage);
    };
    let unusable = hooks::check_programs(&config);
    for error in &unusable {
        streams.error(error);
    }
    if !unusable.is_empty() {
        return Err(ExitCode::Refused);
    }
    let runtime = super::runtime(streams)?;
    let say = |line: &str| {
        let _ = writeln!(std::io::stderr(), "  {line}");
    };
    match runtime.block_on(hooks::check_status(&config, primary, &say)) {
        Ok(good) => {
            for hook in config.hooks.commands.keys() {
                let how = if good.contains(hook) {
                    "--command=status ended with 0"
                } else {
                    "can be run"
                };
                // A closed stdout must not change the answer.
                let _ = writeln!(streams.out, "{hook}: {how}");
            }
            Ok(ExitCode::Done)
        }
        Err(error) => {
            streams.error(&error);
            Err(ExitCode::Refused)
        }
    }
}
