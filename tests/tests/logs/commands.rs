//! The same answers from the commands of `mha-node-agent`: their functions for every event end, the program itself for one
//! target of each kind of answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use binlog_core::{LogError, ServerId};
use node_agent::tools::{Outcome, RelayInput, ToolError, find, generate, save};
use tests::sandbox::tool;

use super::check::{Expected, Known, place, position};
use super::naive::Place;
use super::set::LogSet;

/// Exit codes of the commands.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const NOTHING_TO_DO: i32 = 10;
/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(120);

fn input(set: &LogSet, target: Place) -> RelayInput {
    RelayInput {
        relay_dir: set.relay.clone(),
        relay_log_index: set.index(),
        server_id: ServerId(set.owner),
        target: position(target),
        latest: Some(position(set.latest)),
    }
}

/// A name that no command has written to yet: none replaces a file.
fn fresh(scratch: &Path) -> PathBuf {
    let output = scratch.join("made");
    for path in [output.clone(), scratch.join("made.manifest.json")] {
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
    output
}

/// `find-relay-log` and `generate-diff` for one target.
pub(crate) fn ask(
    known: &Known,
    set: &LogSet,
    target: Place,
    expected: &Expected,
    scratch: &Path,
) -> Result<(), String> {
    let input = input(set, target);
    let found = find::find(&input);
    let made = generate::generate(&input, &fresh(scratch));
    match expected {
        Expected::Serve(first) => {
            let (relay, offset, at_end) = place_of(found)?;
            if at_end {
                return Err(format!("find: the end, though {first} follows"));
            }
            known.check_found(relay, offset, *first)?;
            if target == *first && !known.stands_at(relay, offset, *first) {
                return Err(format!(
                    "find: relay-bin.{relay:06}:{offset} is before {first}"
                ));
            }
            match made.map_err(|error| format!("generate: {error}"))? {
                Outcome::Done(made) => known.check_segment(target, &made.output),
                Outcome::Nothing(nothing) => Err(format!("generate: {}", nothing.detail)),
            }
        }
        Expected::Nothing => {
            let (relay, offset, _) = place_of(found)?;
            known.check_end(relay, offset)?;
            match made.map_err(|error| format!("generate: {error}"))? {
                Outcome::Nothing(_) => Ok(()),
                Outcome::Done(made) => Err(format!("generate: a segment of {}", made.range)),
            }
        }
        Expected::NotHeld => match made {
            Err(ToolError::Log(LogError::NotHeld { .. })) => Ok(()),
            // Among events that no relay log holds, beside a part that is missing.
            Err(ToolError::Log(LogError::Hole { missing, .. }))
                if !known.reached(target)
                    && (place(&missing.from)..place(&missing.to)).contains(&target) =>
            {
                Ok(())
            }
            Err(ToolError::Log(LogError::NoFormatDescription { .. })) if known.is_partial() => {
                Ok(())
            }
            other => Err(format!("generate: {other:?} instead of not held")),
        },
        Expected::Hole(start) => match made {
            Err(ToolError::Log(LogError::Hole { missing, .. })) => {
                known.check_hole(*start, &missing)
            }
            other => Err(format!("generate: {other:?} instead of a hole at {start}")),
        },
    }
}

fn place_of(found: Result<Outcome<find::Found>, ToolError>) -> Result<(u64, u64, bool), String> {
    match found.map_err(|error| format!("find: {error}"))? {
        Outcome::Done(found) => {
            let place = found.relay_log;
            Ok((place.file.sequence(), place.offset, found.at_end))
        }
        Outcome::Nothing(nothing) => Err(format!("find: {}", nothing.detail)),
    }
}

/// `save-binary-logs` from every event end of the primary's log: everything from there on, and nothing at the end.
pub(crate) fn save_all(known: &Known, set: &LogSet, scratch: &Path) -> Result<usize, String> {
    let mut saved = 0;
    for target in known.targets() {
        let request = save::SaveRequest {
            binlog_dir: set.primary.clone(),
            start: position(target),
            output: fresh(scratch),
        };
        let follows = known.truth.data_from(target).next().is_some();
        match save::save(&request).map_err(|error| format!("save {target}: {error}"))? {
            Outcome::Done(made) if follows => {
                known
                    .check_tail(target, &made.output)
                    .map_err(|why| format!("save {target}: {why}"))?;
                saved += 1;
            }
            Outcome::Nothing(_) if !follows => {}
            Outcome::Done(made) => return Err(format!("save {target}: {}", made.range)),
            Outcome::Nothing(nothing) => return Err(format!("save {target}: {}", nothing.detail)),
        }
    }
    Ok(saved)
}

/// The program itself: exit codes, the last line of `find-relay-log`, the files that are written and those that are not.
pub(crate) fn run(
    agent: &Path,
    known: &Known,
    set: &LogSet,
    target: Place,
    expected: &Expected,
    scratch: &Path,
) -> Result<(), String> {
    let output = fresh(scratch);
    let call = |name: &str, output: Option<&Path>| {
        let mut command = Command::new(agent);
        command.arg(name).arg("--relay-dir").arg(&set.relay);
        command.arg("--relay-log-index").arg(set.index());
        command.args(["--server-id", &set.owner.to_string()]);
        command.args([
            "--target",
            &target.to_string(),
            "--latest",
            &set.latest.to_string(),
        ]);
        if let Some(output) = output {
            command.arg("--output").arg(output);
        }
        tool::finish(command, None, LIMIT).unwrap()
    };
    let found = call("find-relay-log", None);
    let made = call("generate-diff", Some(&output));
    let last = found.stdout.lines().last().unwrap_or_default().to_owned();
    let printed = last.strip_prefix("relay-bin.").and_then(|text| {
        let (number, offset) = text.split_once(':')?;
        Some((number.parse::<u64>().ok()?, offset.parse::<u64>().ok()?))
    });
    let codes = (found.code, made.code);
    let written = output.exists();
    match expected {
        Expected::Serve(first) if codes == (Some(DONE), Some(DONE)) => {
            let (relay, offset) = printed.ok_or_else(|| format!("find: last line `{last}`"))?;
            known.check_found(relay, offset, *first)?;
            known.check_segment(target, &output)
        }
        Expected::Nothing if codes == (Some(DONE), Some(NOTHING_TO_DO)) && !written => {
            let (relay, offset) = printed.ok_or_else(|| format!("find: last line `{last}`"))?;
            known.check_end(relay, offset)
        }
        Expected::NotHeld if made.code == Some(FAILED) && !written => {
            // Which of the two, and that a hole names this place, is judged above by the library's answer.
            named(&made.stderr, "not held").or_else(|_| named(&made.stderr, "is missing in"))
        }
        Expected::Hole(_) if made.code == Some(FAILED) && !written => {
            named(&made.stderr, "is missing in")
        }
        _ => Err(format!(
            "exit codes {codes:?} for {expected:?}: {}{}",
            found.stderr, made.stderr
        )),
    }
}

/// The program refuses a place inside an event and names its ends.
pub(crate) fn run_inside(
    agent: &Path,
    known: &Known,
    set: &LogSet,
    start: Place,
) -> Result<(), String> {
    let end = known.truth.end_of(start);
    let inside = Place::new(start.file, start.offset.midpoint(end.offset));
    let mut command = Command::new(agent);
    command
        .arg("find-relay-log")
        .arg("--relay-dir")
        .arg(&set.relay);
    command.arg("--relay-log-index").arg(set.index());
    command.args(["--server-id", &set.owner.to_string()]);
    command.args(["--target", &inside.to_string()]);
    let done = tool::finish(command, None, LIMIT).unwrap();
    if done.code != Some(FAILED) {
        return Err(format!("exit code {:?}", done.code));
    }
    named(&done.stderr, &start.to_string())?;
    named(&done.stderr, &end.to_string())
}

/// The program saves the primary's log from a place.
pub(crate) fn run_save(
    agent: &Path,
    known: &Known,
    set: &LogSet,
    target: Place,
    scratch: &Path,
) -> Result<(), String> {
    let output = fresh(scratch);
    let mut command = Command::new(agent);
    command
        .arg("save-binary-logs")
        .arg("--binlog-dir")
        .arg(&set.primary);
    command
        .args(["--start", &target.to_string()])
        .arg("--output")
        .arg(&output);
    let done = tool::finish(command, None, LIMIT).unwrap();
    let follows = known.truth.data_from(target).next().is_some();
    match done.code {
        Some(DONE) if follows => known.check_tail(target, &output),
        Some(NOTHING_TO_DO) if !follows && !output.exists() => Ok(()),
        code => Err(format!("save: exit code {code:?}: {}", done.stderr)),
    }
}

fn named(text: &str, wanted: &str) -> Result<(), String> {
    if text.contains(wanted) {
        Ok(())
    } else {
        Err(format!("`{wanted}` is not in: {text}"))
    }
}
