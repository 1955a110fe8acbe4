//! `failover`: one failover, now, by this process alone.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::Streams;
use crate::exit_code::ExitCode;
use crate::failover::{self, Request, Surroundings};
use crate::journal::fault;
use crate::prompt::{Operator, Terminal};
use crate::report::{self, Report};

/// Exit codes: 0 done; 1 failed, nothing changed; 2 usage or configuration; 10 done, a server needs care; 11 failed
/// after changes, journal open; 12 refused by a safety check (also: nobody there to ask and no --yes); 13 another
/// operation holds the cluster; 14 outcome unknown.
#[derive(Debug, Args)]
pub(super) struct FailoverArgs {
    /// Configuration of the cluster.
    #[arg(long)]
    config: PathBuf,
    /// The dead primary.
    #[arg(long, value_name = "HOST:PORT")]
    dead_primary: String,
    /// Make this server the new primary, or nobody.
    #[arg(long, value_name = "HOST:PORT")]
    new_primary: Option<String>,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask; skips questions, never a check.
    #[arg(long)]
    yes: bool,
    /// Go on when the dead primary's log cannot be read, and lose what only it holds.
    #[arg(long)]
    accept_loss: bool,
    /// State that the old primary is switched off, where its host cannot be asked.
    #[arg(long)]
    primary_is_off: bool,
    /// State that no other manager of this cluster runs any more, and take it over from the one that claimed it last.
    #[arg(long)]
    take_over: bool,
    /// Go on although the last failover was a short while ago, or was broken off, or too many clusters fail over.
    #[arg(long)]
    ignore_last_failover: bool,
    /// Form of the report on stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the report (JSON) to this file as well.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(args: FailoverArgs, streams: &mut Streams<'_>) -> Result<ExitCode, ExitCode> {
    let config = Arc::new(super::load(&args.config, streams)?);
    let hook = match fault::from_environment() {
        Ok(hook) => hook,
        Err(error) => {
            streams.error(&error);
            return Err(ExitCode::Usage);
        }
    };
    let runtime = super::runtime(streams)?;
    let request = Request {
        dead_primary: args.dead_primary,
        new_primary: args.new_primary,
        dry_run: args.dry_run,
        yes: args.yes,
        accept_loss: args.accept_loss,
        primary_is_off: args.primary_is_off,
        take_over: args.take_over,
        ignore_last_failover: args.ignore_last_failover,
        ..Request::default()
    };
    let mut terminal = Terminal::of_stdin();
    let surroundings = Surroundings {
        // Live lines go to the process's stderr: they must be seen while it works.
        narrator: Arc::new(|line: &str| {
            let _ = writeln!(std::io::stderr(), "{line}");
        }),
        operator: terminal.as_mut().map(|t| t as &mut dyn Operator),
        hook,
    };
    let report = runtime.block_on(failover::run(config, &request, surroundings));
    let shown = show(&report, args.format, streams);
    let saved = match &args.report {
        Some(path) => report::save(&report, path),
        None => Ok(()),
    };
    for failed in [shown, saved].into_iter().filter_map(Result::err) {
        streams.error(&failed);
    }
    Ok(ExitCode::ALL
        .into_iter()
        .find(|c| c.number() == report.exit_code)
        .unwrap_or(ExitCode::OutcomeUnknown))
}

fn show(report: &Report, format: Format, streams: &mut Streams<'_>) -> std::io::Result<()> {
    match format {
        Format::Text => write!(streams.out, "{}", report::render(report)),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *streams.out, report)?;
            writeln!(streams.out)
        }
    }
}
