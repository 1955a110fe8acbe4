//! The demo: a drill told to a person, with a timeline from the kill to the first write and what it is made of.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::drill::{Aftermath, Drill, Measured};
use crate::sandbox::replica;
use crate::sandbox::{SandboxError, ServerKind};

/// How a demo ended, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Good,
    /// The failover ended with another exit code than 0.
    Bad,
}

/// Runs the demo; `say` prints one block of text.
pub async fn run(
    kind: ServerKind,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<End, SandboxError> {
    let began = Instant::now();
    say(&format!(
        "Starting three {kind} servers, three agents and a client ..."
    ))?;
    let drill = Drill::prepare(kind).await?;
    say(&scene(&drill, began.elapsed()).await?)?;
    say("kill -9 db1, and at the same moment:  mha-manager failover --dead-primary db1 --yes\n")?;
    let measured = drill.run().await?;
    say(&measured.text)?;
    say(&timeline(&measured))?;
    let aftermath = drill.aftermath().await?;
    say(&ending(&drill, &measured, &aftermath).await?)?;
    Ok(if measured.exit_code == Some(0) {
        End::Good
    } else {
        End::Bad
    })
}

async fn scene(drill: &Drill, took: Duration) -> Result<String, SandboxError> {
    let mut text = format!(
        "ready after {:.1} s in {}\n\n",
        took.as_secs_f64(),
        drill.cluster.dir().display()
    );
    let [candidate, other, end] = &drill.places;
    let version = drill.cluster.primary().value("SELECT @@version").await?;
    for (server, what) in drill.cluster.servers().iter().zip([
        format!("primary, wrote up to {end}"),
        format!("replica, received up to {candidate}; the preferred candidate"),
        format!("replica, received up to {other}"),
    ]) {
        let _ = writeln!(
            text,
            "  {}  {}  {version}  {what}",
            server.name(),
            server.host_port()
        );
    }
    let _ = write!(
        text,
        "\nThe client saw {} rows acknowledged. {} bytes of the log are on one replica only, {} on no replica.\n",
        drill.written.acknowledged.len(),
        other.offset.saturating_sub(candidate.offset),
        end.offset.saturating_sub(other.offset),
    );
    Ok(text)
}

/// Milliseconds with one digit, aligned.
fn ms(time: Duration) -> String {
    format!("{:9.1} ms", time.as_secs_f64() * 1e3)
}

/// The parts of the time from the kill to the first write: the longest chain is what counts, so each phase is shown from
/// the first start to the last end of its acts.
fn timeline(measured: &Measured) -> String {
    let mut text = String::from("Timeline, counted from the kill\n\n");
    let mut line = |at: Duration, what: &str| {
        let _ = writeln!(text, "{}  {what}", ms(at));
    };
    line(measured.died, "db1's process is gone");
    line(measured.started, "mha-manager starts");
    if let Some(report) = &measured.report {
        // The command counts its own time from the moment it runs; it ended when we saw it end.
        let offset = measured
            .ended
            .saturating_sub(Duration::from_micros(report.duration_us));
        for (act, from, to) in parts(report) {
            line(
                offset + to,
                &format!(
                    "{act} ({:.1} ms)",
                    to.saturating_sub(from).as_secs_f64() * 1e3
                ),
            );
        }
    }
    line(
        measured.first_write,
        &format!("first write of a client on {}", measured.new_primary),
    );
    line(measured.replicated, "the other survivor has that row");
    line(measured.ended, "mha-manager has ended");
    text
}

/// Each phase's span up to the opening for writes, in the order of their ends.
fn parts(report: &manager::report::Report) -> Vec<(String, Duration, Duration)> {
    let limit = report.writable_after_us.unwrap_or(u64::MAX);
    let mut spans: Vec<(String, u64, u64)> = Vec::new();
    for step in report
        .timeline
        .iter()
        .filter(|step| step.started_us < limit)
    {
        let name = step
            .phase
            .heading()
            .trim_matches(['*', '.', ' '])
            .to_owned();
        match spans.iter_mut().find(|(known, _, _)| *known == name) {
            Some((_, from, to)) => {
                *from = (*from).min(step.started_us);
                *to = (*to).max(step.finished_us);
            }
            None => spans.push((name, step.started_us, step.finished_us)),
        }
    }
    spans.sort_by_key(|(_, _, to)| *to);
    spans
        .into_iter()
        .map(|(name, from, to)| (name, Duration::from_micros(from), Duration::from_micros(to)))
        .collect()
}

async fn ending(
    drill: &Drill,
    measured: &Measured,
    aftermath: &Aftermath,
) -> Result<String, SandboxError> {
    let mut text = format!(
        "\nFrom kill to first write: {:.0} ms. {} of {} acknowledged rows are on both survivors; \
         {} tables have equal checksums.\n",
        measured.first_write.as_secs_f64() * 1e3,
        aftermath.acknowledged,
        aftermath.acknowledged,
        aftermath.tables,
    );
    for server in drill.survivors() {
        match replica::status(server).await? {
            Some(status) => {
                let _ = writeln!(text, "  {} follows {}", server.name(), status.source()?);
            }
            None => {
                let _ = writeln!(
                    text,
                    "  {} at {} takes writes",
                    server.name(),
                    server.host_port()
                );
            }
        }
    }
    Ok(text)
}
