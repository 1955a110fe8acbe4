//! The result of a command on the process's own streams, and its exit code.
//!
//! Text: the result on stdout; an error, or why there was nothing to do, as one line on stderr. JSON: exactly one object on
//! stdout, whatever happened, with `command`, `outcome` (`done`, `nothing_to_do`, `failed`, `corrupt_log`), `exit_code`
//! and either `result`, `nothing` or `error`; an error also goes to stderr as a line for people. Positions are objects
//! with `file` and `offset`.

use std::io::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Outcome, ToolError};
use crate::cli::Format;
use crate::error::{Exit, chain};

/// A result that people can read.
pub trait Text {
    /// Appends lines, each with its end.
    fn text(&self, out: &mut String);
    /// The exit code of this result, where it is not simply done.
    fn exit(&self) -> Exit {
        Exit::Done
    }
}

/// Prints what a command came to.
pub fn finish<T: Text + Serialize>(
    command: &str,
    format: Format,
    done: Result<Outcome<T>, ToolError>,
) -> Exit {
    let (exit, line) = match &done {
        Ok(Outcome::Done(result)) => (result.exit(), None),
        Ok(Outcome::Nothing(nothing)) => (Exit::NothingToDo, Some(nothing.detail.clone())),
        Err(error) => (error.exit(), Some(chain(error))),
    };
    let text = match format {
        Format::Text => match &done {
            Ok(Outcome::Done(result)) => {
                let mut text = String::new();
                result.text(&mut text);
                text
            }
            _ => String::new(),
        },
        Format::Json => match to_json(command, exit, &done) {
            Ok(text) => text,
            Err(error) => return failed(command, &error.to_string()),
        },
    };
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        return failed(command, &format!("cannot write to stdout: {error}"));
    }
    if let Some(line) = line {
        let _ = writeln!(std::io::stderr(), "mha-node-agent {command}: {line}");
    }
    exit
}

fn failed(command: &str, line: &str) -> Exit {
    let _ = writeln!(std::io::stderr(), "mha-node-agent {command}: {line}");
    Exit::Failed
}

fn to_json<T: Serialize>(
    command: &str,
    exit: Exit,
    done: &Result<Outcome<T>, ToolError>,
) -> serde_json::Result<String> {
    let outcome = match exit {
        Exit::Done => "done",
        Exit::NothingToDo => "nothing_to_do",
        Exit::CorruptLog => "corrupt_log",
        Exit::Failed | Exit::Usage => "failed",
    };
    let mut object = json!({
        "command": command,
        "outcome": outcome,
        "exit_code": exit.number(),
    });
    let (key, value) = match done {
        Ok(Outcome::Done(result)) => ("result", serde_json::to_value(result)?),
        Ok(Outcome::Nothing(nothing)) => ("nothing", serde_json::to_value(nothing)?),
        Err(error) => ("error", error.to_json()),
    };
    if let Value::Object(fields) = &mut object {
        fields.insert(key.to_owned(), value);
    }
    let mut text = serde_json::to_string_pretty(&object)?;
    text.push('\n');
    Ok(text)
}
