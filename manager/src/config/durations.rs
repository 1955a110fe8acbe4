//! Durations as people write them: `500ms`, `1s`, `2m`.

use std::time::Duration;

/// What a duration in the file must look like.
pub(super) const EXPECTED: &str =
    "a duration above zero and at most 24h, like 500ms, 30s, 2m or 1h";

const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Parses a whole number with its unit; `None` for anything else.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let milliseconds_per_unit = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(milliseconds_per_unit)?);
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_limits() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("30 s", Some(Duration::from_secs(30))),
            ("2m", Some(Duration::from_secs(120))),
            ("24h", Some(LONGEST)),
            ("25h", None),
            ("0s", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
