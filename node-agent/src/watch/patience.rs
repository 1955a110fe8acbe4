//! For how long something has been awaited, counted only while the agent itself runs.
//!
//! The wait is added up in small steps. A step that took much longer than it should (the agent was stopped, its host
//! suspended or starved) counts as a short one: an answer may have lain there all the time. So a wait is never overstated;
//! on a starved host it is understated.

use std::future::Future;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::clock;

/// How often a wait is looked at.
pub const STEP: Duration = Duration::from_millis(50);
/// As much as one step may count.
const LONGEST_STEP: Duration = Duration::from_millis(150);
/// Silence up to here is nothing to speak of.
pub const SILENT_AFTER: Duration = Duration::from_millis(300);

/// A wait, possibly over several attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    counted: Duration,
    last: Option<Duration>,
}

impl Patience {
    /// The clock of a new attempt; what was counted stays.
    pub fn resume(&mut self, now: Duration) {
        self.last = Some(now);
    }

    /// Counts the time since the last look; returns the whole wait.
    pub fn look(&mut self, now: Duration) -> Duration {
        let step = self
            .last
            .map(|last| now.saturating_sub(last))
            .unwrap_or_default();
        self.counted += step.min(LONGEST_STEP);
        self.last = Some(now);
        self.counted
    }

    /// The answer came.
    pub fn over(&mut self) {
        *self = Self::default();
    }
}

/// Awaits `work`, telling `silent` at each step for how long by now.
pub async fn attend<T>(
    patience: &mut Patience,
    work: impl Future<Output = T>,
    mut silent: impl FnMut(Duration),
) -> T {
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    patience.resume(clock::boottime());
    tokio::pin!(work);
    loop {
        tokio::select! {
            // An answer that is there wins over a step that is due.
            biased;
            done = &mut work => return done,
            _ = steps.tick() => silent(patience.look(clock::boottime())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_wait_is_counted_while_the_agent_runs_only() {
        // (looks at, whole wait then)
        let cases: [(&str, &[(u64, u64)]); 5] = [
            ("steady", &[(50, 50), (100, 100), (150, 150)]),
            (
                "stopped for ten seconds",
                &[(50, 50), (10_050, 200), (10_100, 250)],
            ),
            ("somewhat late", &[(120, 120), (240, 240)]),
            ("the clock stands still", &[(0, 0), (0, 0)]),
            ("the clock goes back", &[(50, 50), (20, 50), (70, 100)]),
        ];
        for (what, looks) in cases {
            let mut patience = Patience::default();
            patience.resume(ms(0));
            for (at, whole) in looks {
                assert_eq!(patience.look(ms(*at)), ms(*whole), "{what} at {at}");
            }
        }
    }

    #[test]
    fn attempts_add_up_until_an_answer_comes() {
        let mut patience = Patience::default();
        patience.resume(ms(0));
        patience.look(ms(100));
        // The pause between two attempts does not count.
        patience.resume(ms(5_000));
        assert_eq!(patience.look(ms(5_100)), ms(200));
        patience.over();
        patience.resume(ms(6_000));
        assert_eq!(patience.look(ms(6_050)), ms(50));
    }
}
