//! The command line of `mha-node-agent`, exactly as typed; nothing here acts.

mod tools;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::DEFAULT_PATH;

pub use tools::{
    ApplyArgs, FileCommand, FindArgs, GenerateArgs, InspectArgs, JoinArgs, RelayArgs, SaveArgs,
};

/// The agent on every MySQL host: saves, cuts, ships and applies logs, and fences.
#[derive(Debug, Parser)]
#[command(name = "mha-node-agent", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed, nothing changed; 2 command line or configuration; \
10 nothing to do; 15 corrupt log. RUST_LOG selects what is logged (default: info).";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve this host's mysqld instances until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Commands on plain files.
    #[command(flatten)]
    Files(FileCommand),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How the result of a command on files looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: the result on stdout, an error as one line on stderr.
    Text,
    /// For programs: one JSON object on stdout, an error included.
    Json,
}

/// The command line as data: for man pages, completions, and the test that parses every command in the docs.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn run_has_a_default_configuration_and_takes_another() {
        let Command::Run(args) = Cli::parse_from(["mha-node-agent", "run"]).command else {
            panic!("another command");
        };
        assert_eq!(args.config, PathBuf::from("/etc/mha/node-agent.yaml"));
        let cli = Cli::parse_from([
            "mha-node-agent",
            "run",
            "--config",
            "a.yaml",
            "--log-format",
            "json",
        ]);
        let Command::Run(args) = cli.command else {
            panic!("another command");
        };
        assert_eq!(args.config, PathBuf::from("a.yaml"));
        assert_eq!(cli.log_format, LogFormat::Json);
    }
}
