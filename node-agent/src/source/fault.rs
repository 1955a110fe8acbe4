//! Faults a test can inject into a local source.
//!
//! A plan is part of [`super::SourceConfig`] and empty unless set. In the shipped agent nothing sets it except a hidden
//! configuration key `testing.replay_faults`, which exists for the scenarios that cut a replay at random points; no
//! call over the network reaches it. Every replay starts the plan anew. A fault reads `cut after 1000 bytes`, `stall 2.5 s after 30 events`,
//! `freeze 9 s after 4096 bytes`.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// When a fault strikes. Counts run over all connections since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPoint {
    /// When this many bytes have been sent in answer to dumps, exactly, be it inside an event.
    SentBytes(u64),
    /// When this many events of the stream have been sent.
    SentEvents(u64),
}

/// What happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// The connection is closed without a word.
    Cut,
    /// No event is sent for this long; heartbeats go on. At a byte point, it begins with the next event.
    Stall(Duration),
    /// Nothing at all is sent for this long, as if the host hung. At a byte point, it begins with the next event.
    Freeze(Duration),
}

/// One fault; it strikes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Fault {
    /// When.
    pub at: FaultPoint,
    /// What.
    pub action: FaultAction,
}

/// A text is no fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no fault: wanted `cut|stall N s|freeze N s after N bytes|events`")]
pub struct FaultError {
    /// The text.
    pub text: String,
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parsed = match words.as_slice() {
            ["cut", point @ ..] => Some((FaultAction::Cut, point)),
            ["stall", seconds, "s", point @ ..] => {
                length(seconds).map(|length| (FaultAction::Stall(length), point))
            }
            ["freeze", seconds, "s", point @ ..] => {
                length(seconds).map(|length| (FaultAction::Freeze(length), point))
            }
            _ => None,
        };
        parsed
            .and_then(|(action, words)| point(words).map(|at| Self { at, action }))
            .ok_or_else(|| FaultError {
                text: text.to_owned(),
            })
    }
}

impl TryFrom<String> for Fault {
    type Error = FaultError;

    fn try_from(text: String) -> Result<Self, FaultError> {
        text.parse()
    }
}

fn length(seconds: &str) -> Option<Duration> {
    let length = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    // Beyond a day it is a slip of the pen, and far beyond no clock can add it.
    (length <= Duration::from_secs(86_400)).then_some(length)
}

fn point(words: &[&str]) -> Option<FaultPoint> {
    match words {
        ["after", total, "bytes"] => Some(FaultPoint::SentBytes(total.parse().ok()?)),
        ["after", total, "events"] => Some(FaultPoint::SentEvents(total.parse().ok()?)),
        _ => None,
    }
}

/// Faults in the order in which they strike; a fault waits for the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct FaultPlan {
    /// The faults.
    pub faults: Vec<Fault>,
}

impl FaultPlan {
    /// Cuts the connection each time one of these totals of sent bytes is reached.
    pub fn cut_after_bytes(totals: impl IntoIterator<Item = u64>) -> Self {
        let mut totals: Vec<u64> = totals.into_iter().collect();
        totals.sort_unstable();
        Self {
            faults: totals
                .into_iter()
                .map(|total| Fault {
                    at: FaultPoint::SentBytes(total),
                    action: FaultAction::Cut,
                })
                .collect(),
        }
    }

    /// Cuts the connection each time one of these totals of sent events is reached.
    pub fn cut_after_events(totals: impl IntoIterator<Item = u64>) -> Self {
        let mut totals: Vec<u64> = totals.into_iter().collect();
        totals.sort_unstable();
        Self {
            faults: totals
                .into_iter()
                .map(|total| Fault {
                    at: FaultPoint::SentEvents(total),
                    action: FaultAction::Cut,
                })
                .collect(),
        }
    }
}

/// Faults still to strike, and the counts they wait for; shared by all connections.
#[derive(Debug)]
pub(super) struct Faults {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    due: VecDeque<Fault>,
    sent_bytes: u64,
    sent_events: u64,
}

impl Faults {
    pub(super) fn new(plan: FaultPlan) -> Self {
        Self {
            state: Mutex::new(State {
                due: plan.faults.into(),
                sent_bytes: 0,
                sent_events: 0,
            }),
        }
    }

    /// How many of `wanted` bytes may be written before the next cut; 0 means: cut now.
    pub(super) fn allowance(&self, wanted: usize) -> usize {
        let state = self.lock();
        match state.due.front() {
            Some(Fault {
                at: FaultPoint::SentBytes(total),
                action: FaultAction::Cut,
            }) => {
                let left = total.saturating_sub(state.sent_bytes);
                usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
            }
            _ => wanted,
        }
    }

    /// Counts bytes written.
    pub(super) fn wrote(&self, bytes: usize) {
        self.lock().sent_bytes += bytes as u64;
    }

    /// The cut for which [`Self::allowance`] was 0 has been done.
    pub(super) fn cut_done(&self) {
        self.lock().due.pop_front();
    }

    /// Counts one event sent.
    pub(super) fn sent_event(&self) {
        self.lock().sent_events += 1;
    }

    /// The fault due between two events, if any; it is used up.
    pub(super) fn between_events(&self) -> Option<FaultAction> {
        let mut state = self.lock();
        let fault = *state.due.front()?;
        let reached = match fault {
            Fault {
                at: FaultPoint::SentEvents(total),
                ..
            } => state.sent_events >= total,
            Fault {
                action: FaultAction::Cut,
                ..
            } => false,
            Fault {
                at: FaultPoint::SentBytes(total),
                ..
            } => state.sent_bytes >= total,
        };
        if !reached {
            return None;
        }
        state.due.pop_front();
        Some(fault.action)
    }

    /// Whether anything is left; without faults, events are not counted one by one.
    pub(super) fn any_left(&self) -> bool {
        !self.lock().due.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_text() {
        let fault = |at, action| Ok(Fault { at, action });
        for (text, expected) in [
            (
                "cut after 1000 bytes",
                fault(FaultPoint::SentBytes(1000), FaultAction::Cut),
            ),
            (
                "stall 2.5 s after 30 events",
                fault(
                    FaultPoint::SentEvents(30),
                    FaultAction::Stall(Duration::from_millis(2500)),
                ),
            ),
            (
                "freeze 9 s after 0 events",
                fault(
                    FaultPoint::SentEvents(0),
                    FaultAction::Freeze(Duration::from_secs(9)),
                ),
            ),
        ] {
            assert_eq!(text.parse::<Fault>(), expected);
        }
        for text in [
            "",
            "cut",
            "cut after bytes",
            "stall after 3 events",
            "stall -1 s after 3 events",
            "freeze 1e99 s after 3 events",
            "freeze 1e18 s after 3 events",
            "cut after 3 rows",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
        let plan: FaultPlan = serde_yaml::from_str("[cut after 7 bytes]").unwrap();
        assert_eq!(plan, FaultPlan::cut_after_bytes([7]));
        assert!(serde_yaml::from_str::<FaultPlan>("[nonsense]").is_err());
    }

    #[test]
    fn byte_cuts_strike_once_each_in_order() {
        let faults = Faults::new(FaultPlan::cut_after_bytes([30, 10]));
        assert_eq!(faults.allowance(100), 10);
        faults.wrote(10);
        assert_eq!(faults.allowance(100), 0);
        faults.cut_done();
        assert_eq!(faults.allowance(100), 20);
        faults.wrote(25); // more than asked, as after a fault plan with equal points
        assert_eq!(faults.allowance(1), 0);
        faults.cut_done();
        assert_eq!(faults.allowance(100), 100);
        assert!(!faults.any_left());
    }

    #[test]
    fn event_faults_strike_between_events() {
        let faults = Faults::new(FaultPlan {
            faults: vec![
                Fault {
                    at: FaultPoint::SentEvents(2),
                    action: FaultAction::Cut,
                },
                Fault {
                    at: FaultPoint::SentBytes(5),
                    action: FaultAction::Stall(Duration::from_secs(1)),
                },
            ],
        });
        faults.sent_event();
        assert_eq!(faults.between_events(), None);
        faults.sent_event();
        assert_eq!(faults.between_events(), Some(FaultAction::Cut));
        assert_eq!(faults.between_events(), None);
        faults.wrote(5);
        assert_eq!(
            faults.between_events(),
            Some(FaultAction::Stall(Duration::from_secs(1)))
        );
    }
}
