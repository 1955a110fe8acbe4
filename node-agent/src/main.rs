//! Entry point: the command line, logging, the TLS provider, and the exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use node_agent::cli::{Cli, Command, LogFormat};
use node_agent::error::{Exit, chain};
use node_agent::{daemon, tools};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // clap answers --help with 0 and a wrong command line with 2, as ours are.
    let cli = Cli::parse();
    start_logging(cli.log_format);
    proto::tls::install_crypto_provider();
    match cli.command {
        Command::Run(args) => match daemon::run(&args.config) {
            Ok(()) => Exit::Done.into(),
            Err(error) => {
                tracing::error!("{}", chain(&error));
                error.exit().into()
            }
        },
        Command::Files(command) => tools::run(command).into(),
    }
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
