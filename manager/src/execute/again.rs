//! Asking again when a connection broke off: an agent that died is back as soon as its supervisor has restarted it.
//!
//! Only for what may be done twice. Every call of an agent may: it reads the facts before it does anything. An agent that
//! says nothing until the limit of the call is not asked again here: its host is silent, and that has its own rules.

use std::time::Duration;

use tokio::time::Instant;

/// Pause before a call is repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks until the answer is no longer that the connection `broke_off`: once more at least, and for `limit` after the first
/// time.
pub(crate) async fn again<T, E, F>(
    limit: Duration,
    broke_off: impl Fn(&E) -> bool,
    mut ask: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut give_up = None;
    loop {
        let result = ask().await;
        let now = Instant::now();
        match &result {
            Err(error) if broke_off(error) && give_up.is_none_or(|give_up| now < give_up) => {
                give_up.get_or_insert(now + limit);
                tokio::time::sleep(PAUSE).await;
            }
            _ => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_broken_call_is_repeated_for_a_while_and_no_other() {
        let mut calls = 0;
        let mut three_broken = || {
            calls += 1;
            std::future::ready(if calls < 4 { Err("broken") } else { Ok(calls) })
        };
        let long = Duration::from_secs(60);
        assert_eq!(again(long, |_| true, &mut three_broken).await, Ok(4));

        for (limit, broke_off, expected) in [(Duration::ZERO, true, 2), (long, false, 1)] {
            let mut calls = 0;
            let answer: Result<(), _> = again(
                limit,
                |_| broke_off,
                || {
                    calls += 1;
                    std::future::ready(Err("it failed"))
                },
            )
            .await;
            assert_eq!((answer, calls), (Err("it failed"), expected));
        }
    }
}
