//! The command line: what may be typed, and which module runs it. Output goes to the streams of [`Streams`], so that
//! a test can run a command without a process.

mod address;
mod certs;
mod check_hooks;
mod control;
mod failover;
mod release;
mod run;
mod take_over;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use clap::{Parser, Subcommand};

use crate::config::{self, ClusterConfig};
use crate::exit_code::{Exit, ExitCode};

/// Failover manager for MySQL and MariaDB replication clusters.
#[derive(Debug, Parser)]
#[command(name = "mha-manager", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Where the virtual IP is; bring it up at a living primary.
    Address(address::AddressArgs),
    /// Certificates for managers, agents and observers.
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Try MHA's scripts while the primary lives: `--command=status` of those that have it, and whether all can be run.
    CheckHooks(check_hooks::CheckHooksArgs),
    /// Replace a dead primary: bring all survivors to the furthest known point, promote one, repoint the others.
    Failover(failover::FailoverArgs),
    /// Let the mysqld of a deposed primary start again: end the hold that a failover left on it.
    Release(release::ReleaseArgs),
    /// Watch clusters, fail over when a primary is dead, and go on with the new one.
    Run(run::RunArgs),
    /// Become the manager of a cluster whose manager runs no more: agents refuse every other one.
    TakeOver(take_over::TakeOverArgs),
    #[command(flatten)]
    Control(control::ControlCommand),
}

/// Where a command writes.
pub struct Streams<'a> {
    /// What was asked for.
    pub out: &'a mut (dyn Write + Send),
    /// What went wrong, and what is going on.
    pub err: &'a mut (dyn Write + Send),
}

impl std::fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl Streams<'_> {
    /// Prints an error with its whole chain of causes, once.
    pub fn error(&mut self, error: &dyn std::error::Error) {
        let mut line = format!("mha-manager: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            line.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        // A closed stderr must not change what the command does.
        let _ = writeln!(self.err, "{line}");
    }
}

/// The configuration of a command's cluster. What is wrong with it was printed when this ends with an exit code.
fn load(path: &Path, streams: &mut Streams<'_>) -> Result<ClusterConfig, ExitCode> {
    config::load(path).map_err(|error| {
        streams.error(&error);
        ExitCode::Usage
    })
}

/// The runtime of commands that talk to agents; makes ring the TLS provider of the process. Errors as those of [`load`].
fn runtime(streams: &mut Streams<'_>) -> Result<tokio::runtime::Runtime, ExitCode> {
    proto::tls::install_crypto_provider();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            streams.error(&error);
            ExitCode::Failed
        })
}

/// The exit code of a command that may end early with one.
fn either(ended: Result<ExitCode, ExitCode>) -> Exit {
    ended.unwrap_or_else(|early| early).into()
}

/// The command line as data: for man pages, completions, and the test that parses every command in the docs.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs the command line on the process's own streams.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    run(
        args,
        &mut Streams {
            out: &mut out,
            err: &mut err,
        },
    )
}

/// Runs a command line: `args` starts with the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> Exit {
    match Cli::try_parse_from(args) {
        Ok(cli) => match cli.command {
            Command::Address(args) => either(address::run(args, streams)),
            Command::CheckHooks(args) => either(check_hooks::run(args, streams)),
            Command::Certs(command) => certs::run(command, streams).into(),
            Command::Failover(args) => either(failover::run(args, streams)),
            Command::Release(args) => either(release::run(args, streams)),
            Command::Run(args) => run::run(args, streams).into(),
            Command::TakeOver(args) => either(take_over::run(args, streams)),
            Command::Control(command) => control::run(command, streams),
        },
        Err(error) => {
            let text = error.render();
            if error.use_stderr() {
                let _ = write!(streams.err, "{text}");
                ExitCode::Usage.into()
            } else {
                let _ = write!(streams.out, "{text}");
                ExitCode::Done.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_ends_with_2_and_help_with_0() {
        for (args, expected) in [
            (vec!["mha-manager", "nonsense"], ExitCode::Usage),
            (vec!["mha-manager", "--help"], ExitCode::Done),
            (vec!["mha-manager", "certs", "issue"], ExitCode::Usage),
        ] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = run(
                args.iter().map(OsString::from),
                &mut Streams {
                    out: &mut out,
                    err: &mut err,
                },
            );
            assert_eq!(code, Exit::Manager(expected), "{args:?}");
            assert_eq!(out.is_empty(), expected == ExitCode::Usage, "{args:?}");
        }
    }
}
