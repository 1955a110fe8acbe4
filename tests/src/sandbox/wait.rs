//! Waiting for a condition with a limit; what was last seen is in the error.

use std::future::Future;
use std::time::{Duration, Instant};

use super::error::SandboxError;

/// What a look at a condition found.
#[derive(Debug)]
pub enum Look<T> {
    /// It holds.
    Done(T),
    /// Not yet; what was seen instead.
    NotYet(String),
}

/// Pause after the first look; it grows from look to look, since looks cost what the awaited one needs.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Looks every few milliseconds until the condition holds. An error of a look ends the wait.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> Result<T, SandboxError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<T>, SandboxError>>,
{
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match look().await? {
            Look::Done(value) => return Ok(value),
            Look::NotYet(seen) if started.elapsed() > limit => {
                return Err(SandboxError::Wait {
                    what: what.to_owned(),
                    waited: started.elapsed(),
                    seen,
                });
            }
            Look::NotYet(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 5 / 4).min(LONGEST_PAUSE);
    }
}
