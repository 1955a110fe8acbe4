//! Speaking for a lease: one word for each state that was heard.
//!
//! A word waits for no answer to the one before: while a call hangs, the next one may pass. What is under way is bounded, and
//! ends with the task.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::agents::Word;
use crate::config::{ClusterConfig, ServerConfig};
use crate::daemon::watcher::Connected;
use crate::lease;
use crate::observe::chain;

/// Longest time of a word: it counts from the state that it answers, and renews nothing later.
const LIMIT: Duration = lease::TTL;
/// Words under way at most.
const MOST: usize = 6;

/// Gives the newest words until nobody has any.
pub(super) async fn speak(
    config: Arc<ClusterConfig>,
    primary: ServerConfig,
    connected: Connected,
    mut words: watch::Receiver<Option<Word>>,
) {
    let mut said = FuturesUnordered::new();
    let mut last_trouble = String::new();
    loop {
        tokio::select! {
            Some(result) = said.next(), if !said.is_empty() => {
                let trouble = match result {
                    Ok(()) => String::new(),
                    Err(error) => chain(&error),
                };
                if trouble != last_trouble {
                    if !trouble.is_empty() {
                        tracing::warn!(cluster = %config.cluster, server = %primary.name, error = trouble, "no word for its lease");
                    }
                    last_trouble = trouble;
                }
            }
            changed = words.changed(), if said.len() < MOST => {
                if changed.is_err() {
                    return;
                }
                let Some(word) = words.borrow_and_update().clone() else {
                    continue;
                };
                let agents = connected.agents();
                let (config, primary) = (&config, &primary);
                said.push(async move {
                    match agents.of(primary) {
                        Some(client) => client.renew_lease(config, &primary.name, &word, LIMIT).await,
                        // The next state comes by a new connection.
                        None => Ok(()),
                    }
                });
            }
        }
    }
}
