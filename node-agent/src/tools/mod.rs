//! Commands on plain files, for a DBA by hand: no server, no agent and no manager is needed, but for `apply`, which
//! replays on a local replica.
//!
//! Each command is a function from plain arguments to a typed result or a [`ToolError`]; [`report`] prints either and
//! gives the exit code. What holds for all of them:
//!
//! - logs are only read, and an output is a new file: one that exists is never replaced;
//! - an output appears whole or not at all: it is written and synced in a private folder beside its place, which is gone
//!   when the command ends, whatever happened (see [`staging`]);
//! - an error names file and offset, what was expected and what was found.

pub mod apply;
pub mod error;
pub mod find;
pub mod generate;
pub mod inspect;
pub mod join;
pub mod relay;
pub mod report;
pub mod save;
pub mod segment;
pub mod staging;

pub use error::ToolError;
pub use relay::RelayInput;
pub use segment::{MadeSegment, Nothing};

use crate::cli::FileCommand;
use crate::error::Exit;

/// What a command came to.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It did what was asked.
    Done(T),
    /// There was nothing to do.
    Nothing(Nothing),
}

/// Runs a command on files and prints what it came to.
pub fn run(command: FileCommand) -> Exit {
    match command {
        FileCommand::SaveBinaryLogs(args) => {
            let done = save::save(&save::SaveRequest {
                binlog_dir: args.binlog_dir,
                start: args.start,
                output: args.output,
            });
            report::finish("save-binary-logs", args.format, done)
        }
        FileCommand::FindRelayLog(args) => report::finish(
            "find-relay-log",
            args.format,
            find::find(&args.relay.into()),
        ),
        FileCommand::GenerateDiff(args) => report::finish(
            "generate-diff",
            args.format,
            generate::generate(&args.relay.into(), &args.output),
        ),
        FileCommand::Join(args) => report::finish(
            "join",
            args.format,
            join::join(&args.files, args.first_file.as_ref(), &args.output),
        ),
        FileCommand::Inspect(args) => {
            let show = match (args.verify, args.events) {
                (true, _) => inspect::Show::Verdict,
                (_, true) => inspect::Show::Events(args.format),
                _ => inspect::Show::All,
            };
            let done = inspect::inspect(&args.files, args.first_file.as_ref(), show);
            report::finish("inspect", args.format, done)
        }
        FileCommand::Apply(args) => {
            let format = args.format;
            report::finish("apply", format, apply::apply(&args.into()))
        }
    }
}
