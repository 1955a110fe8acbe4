//! Servers that were replaced and can be reached again: what they hold alone is read, one after the other, beside everything
//! else.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinHandle;

use super::act::report_path;
use super::watcher::Connected;
use crate::config::ClusterConfig;
use crate::monitor::At;
use crate::observe::chain;
use crate::returned::{self, Due, NotYet, Returned};

/// Pause before a server whose log could not be read is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// What is still to be read.
#[derive(Debug, Default)]
pub(super) struct Returning {
    due: Vec<Due>,
    running: Option<JoinHandle<Result<Returned, NotYet>>>,
    next: At,
    said: String,
}

impl Returning {
    /// Reads the journals again.
    pub(super) fn learn(&mut self, config: &ClusterConfig) {
        match returned::all_due(&config.state_dir, &config.cluster) {
            Ok(due) => self.due = due,
            Err(error) => {
                tracing::error!(cluster = %config.cluster, error = %chain(&error), "the journals do not tell whose log is still to be read");
            }
        }
    }

    /// Begins or ends a reading; never waits.
    pub(super) fn look(&mut self, config: &Arc<ClusterConfig>, connected: &Connected, now: At) {
        if let Some(running) = &mut self.running {
            let Some(ended) = running.now_or_never() else {
                return;
            };
            self.running = None;
            self.next = now + AGAIN;
            match ended {
                Ok(Ok(returned)) => self.found(config, &returned),
                Ok(Err(not_yet)) => self.say_once(config, chain(&not_yet)),
                Err(broken) => self.say_once(config, broken.to_string()),
            }
        }
        if self.due.is_empty() || now < self.next {
            return;
        }
        self.next = now + AGAIN;
        let agents = connected.agents();
        let reachable = self.due.iter().find_map(|due| {
            let server = config.servers.iter().find(|s| s.name == due.server)?;
            Some((due.clone(), agents.of(server)?.clone()))
        });
        let Some((due, client)) = reachable else {
            return;
        };
        let config = Arc::clone(config);
        self.running = Some(tokio::spawn(async move {
            let returned = returned::examine(&config, &client, &due).await?;
            let report = report_path(&config, &due.operation);
            let (of, found) = (due.clone(), returned.clone());
            // It cannot be abandoned but with the whole program.
            match tokio::task::spawn_blocking(move || returned::keep(&of, &found, &report)).await {
                Ok(kept) => kept.map(|()| returned),
                Err(error) => Err(NotYet::Unreadable {
                    server: due.server,
                    why: error.to_string(),
                }),
            }
        }));
    }

    fn found(&mut self, config: &ClusterConfig, returned: &Returned) {
        self.due.retain(|due| due.server != returned.server);
        tracing::warn!(cluster = %config.cluster, server = %returned.server, "{}", returned.sentence());
    }

    /// Not every second for as long as it lasts.
    fn say_once(&mut self, config: &ClusterConfig, why: String) {
        if self.said != why {
            tracing::warn!(cluster = %config.cluster, "{why}");
            self.said = why;
        }
    }
}
