//! When another agent is asked, and when a new connection to it is made: pure, fed with moments of one clock.
//!
//! Invariants: a question never waits for the answer to the one before, so that an answer which comes late delays nothing; a
//! connection is given up only for one that has been made, or if a call on it broke, so that one which was silent for a
//! moment is whole when it is heard again. Questions and connections under way are bounded.

use std::time::Duration;

use proto::lease::TTL;

/// Pause between two questions: an agent that stood still for a second before it heard the last answer has time left.
pub(super) const PAUSE: Duration = Duration::from_millis(150);
/// Questions under way on all connections together: those that can still be answered in time.
const MOST: usize = 10;
/// A connection on which nothing was heard for so long although it was asked may be dead.
const SILENT: Duration = Duration::from_millis(750);
/// Pause after a connection could not be made.
const REDIAL: Duration = Duration::from_millis(100);

/// What is known of one other agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asking {
    /// Number of the connection in use; the first is 1, none is 0.
    line: u64,
    open: bool,
    /// When the first question was asked on it that nothing was heard after.
    unheard: Option<Duration>,
    dialling: bool,
    /// No connection is tried before.
    redial: Duration,
    under_way: usize,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// A question is sent on this connection.
    pub(super) ask: Option<u64>,
    /// A connection is tried.
    pub(super) dial: bool,
}

impl Asking {
    /// It is time for a question.
    pub(super) fn turn(&mut self, now: Duration) -> Due {
        let ask = self.open && self.under_way < MOST;
        if ask {
            self.under_way += 1;
            self.unheard.get_or_insert(now);
        }
        let silent = self.unheard.is_some_and(|since| now >= since + SILENT);
        let dial = !self.dialling && now >= self.redial && (!self.open || silent);
        self.dialling |= dial;
        Due {
            ask: ask.then_some(self.line),
            dial,
        }
    }

    /// The connection that was tried is there: questions go there from now on. Returns its number.
    pub(super) fn connected(&mut self) -> u64 {
        self.line += 1;
        (self.open, self.dialling, self.unheard) = (true, false, None);
        self.line
    }

    /// It could not be made.
    pub(super) fn not_connected(&mut self, now: Duration) {
        (self.dialling, self.redial) = (false, now + REDIAL);
    }

    /// A question on connection `line` was answered, with yes or no.
    pub(super) fn answered(&mut self, line: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        if line == self.line {
            self.unheard = None;
        }
    }

    /// It was not, within the lease's time.
    pub(super) fn unanswered(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// It broke: the connection is of no use any more.
    pub(super) fn broke(&mut self, line: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        if line == self.line {
            self.open = false;
        }
    }
}

/// Longest wait for an answer: one that comes later renews nothing. And for a connection: one that was begun while nothing
/// passed is not waited for when everything does again.
pub(super) const LIMIT: Duration = TTL;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn connected() -> Asking {
        let mut asking = Asking::default();
        let due = asking.turn(ms(0));
        assert_eq!((due.ask, due.dial), (None, true));
        assert_eq!(asking.connected(), 1);
        asking
    }

    #[test]
    fn a_question_waits_for_no_answer_and_an_agent_that_stands_still_is_not_flooded() {
        let mut asking = connected();
        let mut asked = 0;
        for turn in 0..40_u64 {
            asked += usize::from(
                asking
                    .turn(PAUSE * u32::try_from(turn).unwrap())
                    .ask
                    .is_some(),
            );
        }
        assert_eq!(asked, MOST);
        asking.unanswered();
        assert_eq!(asking.turn(ms(9_000)).ask, Some(1));
        assert_eq!(asking.turn(ms(9_150)).ask, None);
    }

    #[test]
    fn a_silent_connection_is_kept_until_a_new_one_is_there() {
        let mut asking = connected();
        // It stands still for a second; each turn asks, one connection is tried beside it.
        let mut dials = 0;
        for turn in 0..7 {
            let due = asking.turn(PAUSE * turn);
            assert_eq!(due.ask, Some(1), "turn {turn}");
            assert!(!due.dial || PAUSE * turn >= SILENT, "turn {turn}");
            dials += u32::from(due.dial);
        }
        assert_eq!(dials, 1);
        // It answers everything at once before the new connection is there, and is asked at the next turn.
        for _ in 0..7 {
            asking.answered(1);
        }
        let due = asking.turn(ms(1_050));
        assert_eq!((due.ask, due.dial), (Some(1), false));
        assert_eq!(asking.connected(), 2);
        assert_eq!(asking.turn(ms(1_200)).ask, Some(2));
        // What the old one still says counts, and says nothing of the new one.
        asking.answered(1);
        asking.broke(1);
        assert!(asking.turn(ms(2_000)).dial, "nothing heard on the new one");
    }

    #[test]
    fn a_broken_connection_is_made_again_at_once_and_one_that_fails_after_a_moment() {
        let mut asking = connected();
        assert_eq!(asking.turn(ms(0)).ask, Some(1));
        asking.broke(1);
        let due = asking.turn(ms(10));
        assert_eq!((due.ask, due.dial), (None, true));
        asking.not_connected(ms(20));
        assert!(!asking.turn(ms(20)).dial);
        assert!(!asking.turn(ms(20) + REDIAL - ms(1)).dial);
        assert!(asking.turn(ms(20) + REDIAL).dial);
        assert!(!asking.turn(ms(900)).dial, "one at a time");
        assert_eq!(asking.connected(), 2);
        assert_eq!(asking.turn(ms(910)).ask, Some(2));
    }

    #[test]
    fn an_agent_that_says_no_is_heard() {
        let mut asking = connected();
        for turn in 0..100_u32 {
            let due = asking.turn(PAUSE * turn);
            assert_eq!((due.ask, due.dial), (Some(1), false), "turn {turn}");
            asking.answered(1);
        }
    }

    #[test]
    fn after_a_second_of_standing_still_there_is_time_for_a_new_round() {
        // Asked just before, heard just after, and as long a way again with 200 ms in each direction.
        let left = TTL - Duration::from_secs(1) - PAUSE;
        assert!(left >= ms(300), "{left:?}");
        assert!(
            SILENT + ms(400) < TTL,
            "a new connection comes before the end"
        );
        assert!(PAUSE * u32::try_from(MOST).unwrap() >= TTL);
    }
}
