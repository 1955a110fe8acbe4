//! What becomes of semi-synchronous replication: decided from facts, before the new primary takes writes. Pure.
//!
//! Clients of a primary that waits for replicas were promised that what it acknowledges is on a second host. The next one must
//! promise the same from its first write on: its side is switched on behind its promotion and before `read_only=0`, in one call.
//! Nothing is ever switched off, no number and no timeout is changed, and a replica's side stays as its operator set it: those that
//! are repointed acknowledge if theirs is on. A dead primary cannot be asked whether it waited; its replicas' receivers know.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::topology::{Survivor, Topology};

/// What the new primary can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceSide {
    /// It is on already.
    On,
    /// It is off, and is switched on.
    Off,
    /// It has none.
    Absent,
}

/// Semi-synchronous replication of a cluster whose dead primary waited for replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemiSync {
    /// The dead primary.
    pub old_primary: String,
    /// Survivors that it waited for, in configured order; never empty.
    pub waited_for: Vec<String>,
    /// The new primary.
    pub new_primary: String,
    /// Its source's side.
    pub source_side: SourceSide,
    /// Survivors that will acknowledge what the new primary sends, in configured order.
    pub acknowledging: Vec<String>,
    /// How many of them a commit waits for.
    pub wait_for: u32,
    /// How long it waits for them, in milliseconds, if that is known.
    pub timeout_ms: Option<u64>,
}

impl SemiSync {
    /// The new primary's commits are to wait.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.source_side != SourceSide::Absent
    }

    /// Fewer replicas will acknowledge than its commits wait for.
    #[must_use]
    pub fn stalls(&self) -> bool {
        self.is_asked_for() && self.acknowledging.len() < self.wait_for as usize
    }
}

/// Decides for this new primary; `None` if the dead primary waited for nobody, as far as any survivor knows.
#[must_use]
pub fn semi_sync(topology: &Topology, new_primary: &str) -> Option<SemiSync> {
    let names = |test: &dyn Fn(&Survivor) -> bool| -> Vec<String> {
        let chosen = topology.survivors.iter().filter(|s| test(s));
        chosen.map(|s| s.server.clone()).collect()
    };
    let waited_for = names(&|s| s.facts.semi_sync_received);
    if waited_for.is_empty() {
        return None;
    }
    let own = topology
        .survivors
        .iter()
        .find(|s| s.server == new_primary)
        .and_then(|s| s.facts.settings.as_ref());
    let side_is_on = |s: &Survivor| {
        let settings = s.facts.settings.as_ref();
        settings.and_then(|s| s.semi_sync_replica) == Some(true)
    };
    Some(SemiSync {
        old_primary: topology.dead.clone(),
        waited_for,
        new_primary: new_primary.to_owned(),
        source_side: match own.and_then(|settings| settings.semi_sync_source) {
            Some(true) => SourceSide::On,
            Some(false) => SourceSide::Off,
            None => SourceSide::Absent,
        },
        // One whose applier failed is left stopped, its receiver, too.
        acknowledging: names(&|s| {
            s.server != new_primary && s.applier_failed().is_none() && side_is_on(s)
        }),
        wait_for: own
            .and_then(|settings| settings.semi_sync_wait_for)
            .unwrap_or(1),
        timeout_ms: own.and_then(|settings| settings.semi_sync_timeout_ms),
    })
}

impl fmt::Display for SemiSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let new = &self.new_primary;
        write!(
            f,
            "commits of {} waited for {}; ",
            self.old_primary,
            self.waited_for.join(", ")
        )?;
        match self.source_side {
            SourceSide::On => write!(f, "those of {new} wait already")?,
            SourceSide::Off => write!(f, "those of {new} are to wait from the first one on")?,
            SourceSide::Absent => {
                return write!(
                    f,
                    "those of {new} cannot wait: it has no rpl_semi_sync variable of a source (is the plugin installed?)"
                );
            }
        }
        match self.acknowledging.as_slice() {
            [] => f.write_str(", and no replica will acknowledge them")?,
            all => write!(
                f,
                " for {}",
                match self.wait_for {
                    1 => format!("one of {}", all.join(", ")),
                    number => format!("{number} of {}", all.join(", ")),
                }
            )?,
        }
        if self.stalls() {
            let time = self
                .timeout_ms
                .map_or_else(String::new, |ms| format!(" {ms} ms"));
            write!(
                f,
                ": too few, so the first one waits for rpl_semi_sync_*_timeout{time}, and after that none waits until enough of them follow"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Settings, ThreadError};
    use crate::testing::topology;

    fn settings(topology: &mut Topology, n: usize) -> &mut Settings {
        let facts = &mut topology.survivors.get_mut(n).unwrap().facts;
        facts.settings.as_mut().unwrap()
    }

    /// db2 is the new primary; db2, db3 and db4 received and have both sides, the source's off.
    fn all() -> Topology {
        let mut topology = topology(&[("1:452", "1:452"), ("1:880", "1:880"), ("1:880", "1:880")]);
        for n in 0..3 {
            topology
                .survivors
                .get_mut(n)
                .unwrap()
                .facts
                .semi_sync_received = true;
            let settings = settings(&mut topology, n);
            settings.semi_sync_source = Some(false);
            settings.semi_sync_replica = Some(true);
            settings.semi_sync_timeout_ms = Some(10_000);
        }
        topology
    }

    #[test]
    fn table_of_decisions() {
        type Row<'a> = (&'a str, fn(&mut Topology), Option<(bool, bool, &'a str)>);
        let table: &[Row<'_>] = &[
            (
                "all as usual",
                |_| {},
                Some((
                    true,
                    false,
                    "commits of db1 waited for db2, db3, db4; those of db2 are to wait from the first one on for one of db3, db4",
                )),
            ),
            (
                "it waited for nobody",
                |t| {
                    for survivor in &mut t.survivors {
                        survivor.facts.semi_sync_received = false;
                    }
                },
                None,
            ),
            (
                "it waited for another one only",
                |t| {
                    for n in [0, 2] {
                        t.survivors.get_mut(n).unwrap().facts.semi_sync_received = false;
                        settings(t, n).semi_sync_replica = Some(false);
                    }
                },
                Some((
                    true,
                    false,
                    "commits of db1 waited for db3; those of db2 are to wait from the first one on for one of db3",
                )),
            ),
            (
                "on already, for two",
                |t| {
                    settings(t, 0).semi_sync_source = Some(true);
                    settings(t, 0).semi_sync_wait_for = Some(2);
                },
                Some((true, false, "those of db2 wait already for 2 of db3, db4")),
            ),
            (
                "for two, and one of them is left stopped",
                |t| {
                    settings(t, 0).semi_sync_wait_for = Some(2);
                    let broken = &mut t.survivors.get_mut(2).unwrap().replica;
                    broken.applier_running = false;
                    broken.applier_error = Some(ThreadError {
                        errno: 1062,
                        text: "duplicate".into(),
                    });
                },
                Some((
                    true,
                    true,
                    "for 2 of db3: too few, so the first one waits for rpl_semi_sync_*_timeout 10000 ms",
                )),
            ),
            (
                "nobody else is there",
                |t| t.survivors.truncate(1),
                Some((true, true, "and no replica will acknowledge them: too few")),
            ),
            (
                "no plugin",
                |t| settings(t, 0).semi_sync_source = None,
                Some((
                    false,
                    false,
                    "those of db2 cannot wait: it has no rpl_semi_sync variable of a source (is the plugin installed?)",
                )),
            ),
        ];
        for (story, change, expected) in table {
            let mut topology = all();
            change(&mut topology);
            let found = semi_sync(&topology, "db2");
            let shown = found
                .as_ref()
                .map(|s| (s.is_asked_for(), s.stalls(), s.to_string()));
            match (&shown, expected) {
                (None, None) => {}
                (Some((asked, stalls, text)), Some((wanted, wanted_stalls, words))) => {
                    assert_eq!((asked, stalls), (wanted, wanted_stalls), "{story}: {text}");
                    assert!(text.contains(words), "{story}: {text}");
                }
                _ => panic!("{story}: {shown:?}"),
            }
        }
    }
}
