//! Asks the guard, with the journals and what operators have said as they are now.

use super::{FailoverError, Request};
use crate::config::{ClusterConfig, ServerConfig};
use crate::execute::unix_ms;
use crate::guard::{self, Blocked, Question, Standing};
use crate::observe::chain;

/// Whether a failover of `dead` may start. Reads files only.
///
/// # Errors
/// [`FailoverError::Blocked`].
pub(super) fn permit(
    config: &ClusterConfig,
    dead: &ServerConfig,
    request: &Request,
) -> Result<(), FailoverError> {
    let unreadable = |error: &dyn std::error::Error| Blocked::Unreadable { why: chain(error) };
    let cluster =
        guard::of_cluster(&config.state_dir, &config.cluster).map_err(|e| unreadable(&e))?;
    let fleet = guard::of_all(&config.state_dir).map_err(|e| unreadable(&e))?;
    let standing =
        Standing::load(&config.state_dir, &config.cluster).map_err(|e| unreadable(&e))?;
    guard::permit(&Question {
        dead: &dead.name,
        origin: request.origin,
        ignore_last_failover: request.ignore_last_failover,
        cluster: &cluster,
        fleet: &fleet,
        standing: &standing,
        policy: &config.failover,
        now_unix_ms: unix_ms(),
    })?;
    Ok(())
}
