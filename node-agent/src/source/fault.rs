//! Faults a test can inject into a local source.
//!
//! A plan is part of [`super::SourceConfig`] and empty unless set. In the shipped agent nothing sets it except the
//! hidden configuration key `testing.cut_after_bytes`, which exists for the scenarios that cut a replay at random
//! points; no call over the network reaches it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: FaultPoint,
    /// What.
    pub action: FaultAction,
}

/// Faults in the order in which they strike; a fault waits for the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
