//! `certs init` and `certs issue`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::Streams;
use crate::certs::{self, CertificateRequest, CertificateRole, CertsError, WrittenPair};
use crate::exit_code::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum CertsCommand {
    /// Make an authority: ca.pem and ca.key. Keep ca.key away from the database hosts.
    Init(InitArgs),
    /// Issue a certificate by that authority: NAME.pem and NAME.key.
    Issue(IssueArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Folder of the authority; made if missing.
    #[arg(long)]
    dir: PathBuf,
    /// Common name of the authority.
    #[arg(long, default_value = "mha certificate authority")]
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct IssueArgs {
    /// Folder of the authority.
    #[arg(long)]
    dir: PathBuf,
    /// Cluster the holder belongs to; may be repeated; `*` for a manager of all clusters.
    #[arg(long, required = true)]
    cluster: Vec<String>,
    /// What the holder may do.
    #[arg(long)]
    role: CertificateRole,
    /// Name of the manager, agent or observer.
    #[arg(long)]
    name: String,
    /// Further DNS name or address; may be repeated.
    #[arg(long)]
    host: Vec<String>,
    /// Validity in days.
    #[arg(long, default_value_t = 1825, value_parser = clap::value_parser!(u16).range(1..=7300))]
    days: u16,
}

pub(super) fn run(command: CertsCommand, streams: &mut Streams<'_>) -> ExitCode {
    let now = OffsetDateTime::now_utc();
    let written = match command {
        CertsCommand::Init(args) => certs::init(&args.dir, &args.name, now),
        CertsCommand::Issue(args) => certs::issue(
            &args.dir,
            &CertificateRequest {
                clusters: args.cluster,
                role: args.role,
                name: args.name,
                hosts: args.host,
                days: args.days,
            },
            now,
        ),
    };
    report(written, streams)
}

fn report(written: Result<WrittenPair, CertsError>, streams: &mut Streams<'_>) -> ExitCode {
    match written {
        Ok(pair) => {
            // A closed stdout must not turn a written certificate into a failure.
            let _ = writeln!(streams.out, "{}", pair.certificate.display());
            let _ = writeln!(streams.out, "{}", pair.key.display());
            ExitCode::Done
        }
        Err(error) => {
            streams.error(&error);
            match error {
                CertsError::BadHost { .. } | CertsError::Identity(_) | CertsError::ReservedName => {
                    ExitCode::Usage
                }
                CertsError::Exists { .. }
                | CertsError::Io { .. }
                | CertsError::Authority { .. }
                | CertsError::Make { .. } => ExitCode::Failed,
            }
        }
    }
}
