//! A bad half hour: both cores busy, every link with jitter, parts that stand still for a second. Nothing must come of it: no
//! failover, and no primary that refuses writes for long although nobody replaced it.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::partition::Divided;
use crate::sandbox::launch::{Launch, Process};
use crate::sandbox::links::Flow;
use crate::sandbox::witness::Diary;
use crate::sandbox::{SandboxError, ServerKind};
use crate::watched::wrong;

/// What chance adds to the way of every packet, in each direction.
const JITTER: Duration = Duration::from_millis(200);
/// How long a part stands still.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest time for which the primary may refuse writes: its agent stands still, the answers go both ways, mysqld stands
/// still while it is opened, one try fails ([`PAUSE`] twice, 400 ms of way, a pause of 500 ms), and as much again for the
/// processors.
const LONGEST_REFUSAL: Duration = Duration::from_secs(5);
/// Processes that do nothing but spin.
const SPINNERS: usize = 2;
/// Between two pauses, milliseconds.
const BETWEEN_MS: std::ops::Range<u64> = 1_000..5_000;

/// A part that can stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Manager,
    Agent(usize),
    Server(usize),
}

const PARTS: [Part; 7] = [
    Part::Manager,
    Part::Agent(0),
    Part::Agent(1),
    Part::Agent(2),
    Part::Server(0),
    Part::Server(1),
    Part::Server(2),
];

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manager => f.write_str("the manager"),
            Self::Agent(number) => write!(f, "the agent of db{}", number + 1),
            Self::Server(number) => write!(f, "mysqld of db{}", number + 1),
        }
    }
}

/// Runs it; fails at the first failover, if any server but the primary took a row, or if the primary refused writes for longer
/// than [`LONGEST_REFUSAL`].
///
/// # Errors
/// The sandbox's, and whatever came of it.
pub async fn run(
    kind: ServerKind,
    time: Duration,
    seed: u64,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    say(&format!("seed {seed}, {kind}, {} s", time.as_secs()))?;
    let divided = Divided::start(kind, seed).await?;
    let Some(links) = divided.watched.cluster.links().cloned() else {
        return Err(wrong("relays", "none"));
    };
    let log = divided.watched.cluster.dir().join("spin.log");
    let spin = || {
        Process::start(&Launch {
            name: "spin".to_owned(),
            program: "sh".into(),
            arguments: ["-c", "while :; do :; done"].map(OsString::from).to_vec(),
            environment: Vec::new(),
            log: log.clone(),
        })
    };
    let spinners: Vec<Process> = (0..SPINNERS).map(|_| spin()).collect::<Result<_, _>>()?;
    links.everywhere(Flow::Delayed {
        least: Duration::ZERO,
        jitter: JITTER,
    });
    let begun = Instant::now();
    let mut chance = StdRng::seed_from_u64(seed);
    let mut pauses = [0_u32; PARTS.len()];
    let mut told = Instant::now();
    while begun.elapsed() < time {
        let between = Duration::from_millis(chance.random_range(BETWEEN_MS));
        tokio::time::sleep(between).await;
        let number = chance.random_range(0..PARTS.len());
        let part = PARTS[number];
        pauses[number] += 1;
        still(&divided, part, true)?;
        tokio::time::sleep(PAUSE).await;
        still(&divided, part, false)?;
        if divided.failovers() > 0 {
            let log = divided.watched.daemon.log_text();
            return Err(wrong(
                "no failover",
                &format!(
                    "one {:?} after the start, seed {seed}, last pause: {part}\n{log}",
                    begun.elapsed()
                ),
            ));
        }
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            let count: u32 = pauses.iter().sum();
            say(&format!(
                "{} s: {count} pauses, no failover",
                begun.elapsed().as_secs()
            ))?;
        }
    }
    links.everywhere(Flow::Pass);
    drop(spinners);
    // A verdict that was on its way comes now.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let failovers = divided.failovers();
    let log = divided.watched.daemon.log_text();
    if failovers > 0 {
        return Err(wrong(
            "no failover",
            &format!("{failovers}, seed {seed}\n{log}"),
        ));
    }
    for (part, count) in PARTS.iter().zip(pauses) {
        say(&format!("{part}: {count} pauses of {PAUSE:?}"))?;
    }
    for words in ["is alive", "is isolated", "is unknown"] {
        let count = log.lines().filter(|line| line.contains(words)).count();
        say(&format!("the manager said \"{words}\" {count} times"))?;
    }
    let primary = divided.undivided().await?;
    let refusals = refusals(&primary);
    let longest = refusals.iter().max().copied().unwrap_or_default();
    say(&format!(
        "the primary refused writes {} times, the longest time for {longest:?}",
        refusals.len()
    ))?;
    for refusal in &refusals {
        say(&format!("  for {refusal:?}"))?;
    }
    if longest > LONGEST_REFUSAL {
        let found = format!("{longest:?}, seed {seed}\n{log}");
        return Err(wrong(
            &format!("no refusal of writes for more than {LONGEST_REFUSAL:?}"),
            &found,
        ));
    }
    say(&format!(
        "no failover in {} s, {} rows taken by {} alone",
        begun.elapsed().as_secs(),
        primary.rows(),
        primary.server
    ))
}

fn still(divided: &Divided, part: Part, still: bool) -> Result<(), SandboxError> {
    let watched = &divided.watched;
    match (part, still) {
        (Part::Manager, true) => watched.daemon.freeze(),
        (Part::Manager, false) => watched.daemon.thaw(),
        (Part::Agent(number), true) => watched.deployment.agent(number).freeze(),
        (Part::Agent(number), false) => watched.deployment.agent(number).thaw(),
        (Part::Server(number), true) => watched.cluster.server(number).freeze(),
        (Part::Server(number), false) => watched.cluster.server(number).thaw(),
    }
}

/// For how long the primary refused writes, each time: from the first refusal to the first row afterwards.
fn refusals(primary: &Diary) -> Vec<Duration> {
    let stretches = primary.stretches.iter().enumerate();
    stretches
        .filter(|(_, stretch)| !stretch.taken)
        .map(|(index, stretch)| {
            let next = primary.stretches.get(index + 1);
            let end = next.map_or(stretch.last.answered, |next| next.first.answered);
            end.duration_since(stretch.first.answered)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::witness::{Stretch, Try};

    #[test]
    fn a_refusal_lasts_until_the_next_row_or_to_the_end() {
        let begin = Instant::now();
        let stretch = |taken, from: u64, to: u64| {
            let at = |ms| Try {
                number: ms,
                sent: begin + Duration::from_millis(ms),
                answered: begin + Duration::from_millis(ms + 1),
            };
            Stretch {
                taken,
                first: at(from),
                last: at(to),
                count: 2,
            }
        };
        let diary = Diary {
            server: "db1".to_owned(),
            stretches: vec![
                stretch(true, 0, 90),
                stretch(false, 100, 140),
                stretch(true, 150, 290),
                stretch(false, 300, 360),
            ],
        };
        assert_eq!(
            refusals(&diary),
            [Duration::from_millis(50), Duration::from_millis(60)]
        );
    }
}
