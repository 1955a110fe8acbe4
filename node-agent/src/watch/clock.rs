//! The clocks of moments that leave the host.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use proto::watch::Moment;

/// Time since the boot, suspend included. Every Linux since 2.6.39 has this clock; without it time stands still, and nothing
/// that is measured by it ever expires by mistake.
pub fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}

/// This moment by both clocks.
pub fn now() -> Moment {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Moment {
        boottime: boottime(),
        unix_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs() {
        let before = boottime();
        std::thread::sleep(Duration::from_millis(2));
        let passed = boottime().checked_sub(before).unwrap();
        assert!(passed >= Duration::from_millis(2), "{passed:?}");
        assert!(now().unix_ms > 1_600_000_000_000);
    }
}
