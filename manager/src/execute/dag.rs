//! Runs steps in the order their dependencies allow, everything that can at the same time.

use std::collections::BTreeMap;

use futures::stream::{FuturesUnordered, StreamExt};

use super::{Run, StepError, StepTiming, again, perform, unix_ms};
use crate::journal::{JournalError, Record, StepOutcome};
use crate::observe::chain;
use crate::plan::{Act, Step, StepId};

/// What came of a step.
#[derive(Debug)]
pub enum StepResult {
    /// It succeeded.
    Done(StepOutcome),
    /// It failed.
    Failed(StepError),
    /// A step it waits for did not succeed.
    Skipped {
        /// That step.
        because: StepId,
    },
}

/// Results of all steps of a run, with their acts.
#[derive(Debug, Default)]
pub struct StepResults {
    results: BTreeMap<StepId, (Act, StepResult)>,
}

impl StepResults {
    /// Every step with its result, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&Act, &StepResult)> {
        self.results.values().map(|(act, result)| (act, result))
    }

    /// Outcomes of steps that succeeded.
    pub fn done(&self) -> impl Iterator<Item = (&Act, &StepOutcome)> {
        self.iter().filter_map(|(act, result)| match result {
            StepResult::Done(outcome) => Some((act, outcome)),
            StepResult::Failed(_) | StepResult::Skipped { .. } => None,
        })
    }

    /// Steps that failed themselves.
    pub fn failed(&self) -> impl Iterator<Item = (&Act, &StepError)> {
        self.iter().filter_map(|(act, result)| match result {
            StepResult::Failed(error) => Some((act, error)),
            StepResult::Done(_) | StepResult::Skipped { .. } => None,
        })
    }

    /// Failed steps, by value.
    pub fn into_failed(self) -> impl Iterator<Item = (Act, StepError)> {
        self.results
            .into_values()
            .filter_map(|(act, result)| match result {
                StepResult::Failed(error) => Some((act, error)),
                StepResult::Done(_) | StepResult::Skipped { .. } => None,
            })
    }

    fn succeeded(&self, id: StepId) -> Option<bool> {
        self.results
            .get(&id)
            .map(|(_, r)| matches!(r, StepResult::Done(_)))
    }
}

pub(super) async fn run(
    run: &Run,
    stage: u32,
    steps: &[Step],
) -> Result<StepResults, JournalError> {
    let mut results = StepResults::default();
    let mut waiting: Vec<&Step> = steps.iter().collect();
    let mut running = FuturesUnordered::new();
    loop {
        let mut progressed = true;
        while progressed {
            progressed = false;
            let mut still = Vec::with_capacity(waiting.len());
            for step in waiting {
                match readiness(step, &results) {
                    Readiness::Ready => running.push(one(run, stage, step)),
                    Readiness::Waits => still.push(step),
                    Readiness::Never(because) => {
                        let skipped = StepResult::Skipped { because };
                        results.results.insert(step.id, (step.act.clone(), skipped));
                        progressed = true;
                    }
                }
            }
            waiting = still;
        }
        let Some(finished) = running.next().await else {
            // What still waits now waits for itself or for a step that does not exist.
            for step in waiting {
                let skipped = StepResult::Skipped { because: step.id };
                results.results.insert(step.id, (step.act.clone(), skipped));
            }
            return Ok(results);
        };
        let (step, result) = finished?;
        results.results.insert(step.id, (step.act.clone(), result));
    }
}

enum Readiness {
    Ready,
    Waits,
    Never(StepId),
}

fn readiness(step: &Step, results: &StepResults) -> Readiness {
    let mut ready = true;
    for before in &step.after {
        match results.succeeded(*before) {
            Some(true) => {}
            Some(false) => return Readiness::Never(*before),
            None => ready = false,
        }
    }
    if ready {
        Readiness::Ready
    } else {
        Readiness::Waits
    }
}

/// Journals, does, journals.
async fn one<'s>(
    run: &Run,
    stage: u32,
    step: &'s Step,
) -> Result<(&'s Step, StepResult), JournalError> {
    run.journal
        .append(&Record::Started {
            unix_ms: unix_ms(),
            stage,
            step: step.clone(),
        })
        .await?;
    let started_us = run.elapsed_us();
    let limit = run.config.failover.call_timeout;
    let result = again(limit, StepError::broke_off, || {
        perform::perform(run, &step.act)
    })
    .await;
    let finished_us = run.elapsed_us();
    let (record, note) = match &result {
        Ok(outcome) => (
            Record::Done {
                unix_ms: unix_ms(),
                stage,
                step: step.id,
                outcome: Box::new(outcome.clone()),
            },
            perform::note(outcome),
        ),
        Err(error) => (
            Record::Failed {
                unix_ms: unix_ms(),
                stage,
                step: step.id,
                why: chain(error),
                outcome_unknown: error.outcome_unknown(),
                output: error.output().cloned(),
            },
            chain(error),
        ),
    };
    run.journal.append(&record).await?;
    run.record(StepTiming {
        stage,
        step: step.id,
        phase: step.act.phase(),
        act: step.act.to_string(),
        started_us,
        finished_us,
        ok: result.is_ok(),
        note: note.clone(),
    });
    let state = if result.is_ok() { "ok" } else { "FAILED" };
    let milliseconds = (finished_us - started_us) as f64 / 1000.0;
    let separator = if note.is_empty() { "" } else { ": " };
    (run.narrator)(&format!(
        "  {} .. {state} ({milliseconds:.1} ms){separator}{note}",
        step.act
    ));
    Ok((
        step,
        match result {
            Ok(outcome) => StepResult::Done(outcome),
            Err(error) => StepResult::Failed(error),
        },
    ))
}
