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

/// What happened when. The parts overlap: cutting, shipping and the replay of the other survivor go on together.
fn timeline(measured: &Measured) -> String {
    let mut lines = vec![
        (
            measured.died,
            "db1's process is gone; mha-manager starts".to_owned(),
        ),
        (
            measured.first_write,
            format!("FIRST WRITE of a client, on {}", measured.new_primary),
        ),
        (
            measured.replicated,
            "the other survivor has that row".to_owned(),
        ),
        (measured.ended, "mha-manager has ended".to_owned()),
    ];
    if let Some(report) = &measured.report {
        // The command counts its own time from the moment it runs; it ended when we saw it end.
        let offset = measured
            .ended
            .saturating_sub(Duration::from_micros(report.duration_us));
        lines.push((offset, "mha-manager runs".to_owned()));
        for part in parts(report) {
            let took = ms(part.to.saturating_sub(part.from));
            lines.push((
                offset + part.to,
                format!("{} (took {})", part.name, took.trim()),
            ));
        }
    }
    lines.sort();
    let mut text = String::from("Timeline, counted from the kill\n\n");
    for (at, what) in lines {
        let _ = writeln!(text, "{}  {what}", ms(at));
    }
    text
}

/// A part of the way to the first write.
struct Part {
    name: &'static str,
    from: Duration,
    to: Duration,
}

/// The parts by the beginnings of their acts' words; what matches none is not on the way to the first write.
const PARTS: [(&str, &[&str]); 6] = [
    ("the cluster is claimed", &["claim "]),
    (
        "receivers stopped, the dead server held down",
        &["stop ", "hold "],
    ),
    (
        "missing pieces compared, cut and saved",
        &["compare ", "cut ", "save "],
    ),
    ("pieces shipped", &["send "]),
    ("promoted", &["promote "]),
    ("opened for writes", &["open "]),
];

/// Each part from the first start to the last end of its acts.
fn parts(report: &manager::report::Report) -> Vec<Part> {
    let new_primary = report.new_primary.as_deref().unwrap_or_default();
    let replay = format!("bring {new_primary} ");
    let span = |name: &'static str, begins: &dyn Fn(&str) -> bool| {
        let steps = || report.timeline.iter().filter(|step| begins(&step.act));
        Some(Part {
            name,
            from: Duration::from_micros(steps().map(|step| step.started_us).min()?),
            to: Duration::from_micros(steps().map(|step| step.finished_us).max()?),
        })
    };
    PARTS
        .iter()
        .map(|(name, beginnings)| {
            span(name, &|act| {
                beginnings
                    .iter()
                    .any(|beginning| act.starts_with(beginning))
            })
        })
        .chain([span("the new primary has replayed all it lacked", &|act| {
            act.starts_with(&replay)
        })])
        .flatten()
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
