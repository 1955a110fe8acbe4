//! A moment after which nobody waits any more.

use std::time::Duration;

use tokio::time::Instant;

/// When the caller stops waiting; passed down unchanged so that nested waits cannot add up to more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Instant);

impl Deadline {
    /// `limit` from now on.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// The moment itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Time left; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// True once it has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// Time left, but at most `limit`.
    pub fn at_most(self, limit: Duration) -> Duration {
        self.remaining().min(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_left_shrinks_to_zero_and_stays_there() {
        let deadline = Deadline::after(Duration::from_secs(2));
        assert_eq!(
            deadline.at_most(Duration::from_secs(1)),
            Duration::from_secs(1)
        );
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(deadline.remaining(), Duration::from_millis(500));
        assert!(!deadline.has_passed());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(deadline.remaining(), Duration::ZERO);
        assert!(deadline.has_passed());
    }
}
