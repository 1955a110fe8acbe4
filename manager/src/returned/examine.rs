//! Reads the log of a replaced primary through its agent, and keeps what was found.

use std::path::Path;
use std::time::Duration;

use binlog_core::TransactionRef;
use proto::v1::ErrorKind;

use super::{Compared, Due, Found, LISTED, Returned, Written, compare};
use crate::agents::{
    AgentCallError, AgentClient, Claim, Context, Logs, SegmentOutcome, SegmentRef,
};
use crate::config::ClusterConfig;
use crate::execute::{StepError, copy, unix_ms};
use crate::facts::{LastTransaction, Process, ServerFacts};
use crate::journal::{self, JournalError, Record};
use crate::observe::chain;
use crate::report::{self, Report};

/// Why the log could not be read yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotYet {
    /// The server runs and is not shut.
    #[error("{server} can be reached again and is not read-only: clients may write to it")]
    Open {
        /// The server.
        server: String,
    },
    /// Its agent did not answer, or refused.
    #[error("the log of {server} cannot be read")]
    Call {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: AgentCallError,
    },
    /// The copy could not be made.
    #[error("what {server} wrote cannot be copied")]
    Copy {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: StepError,
    },
    /// The copy cannot be read.
    #[error("the copy of what {server} wrote cannot be read: {why}")]
    Unreadable {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// The finding could not be written down.
    #[error("what {server} wrote could not be written down")]
    Journal {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: JournalError,
    },
}

/// Whether nothing can be added to the log any more: mysqld does not run, or is read-only.
fn is_shut(facts: &ServerFacts) -> bool {
    facts.process == Process::NotRunning || facts.settings.as_ref().is_some_and(|s| s.read_only)
}

/// Reads what the server holds beyond the failover.
///
/// # Errors
/// [`NotYet`]; nothing was changed but the agent's store.
pub async fn examine(
    config: &ClusterConfig,
    client: &AgentClient,
    due: &Due,
) -> Result<Returned, NotYet> {
    let server = due.server.clone();
    let limit = config.failover.call_timeout;
    let call = |source| NotYet::Call {
        server: server.clone(),
        source,
    };
    let facts = client
        .observe(&config.cluster, &server, limit)
        .await
        .map_err(call)?;
    if !is_shut(&facts) {
        return Err(NotYet::Open { server });
    }
    let stall = config.failover.save_timeout;
    let surveyed = survey(config, client, due, stall).await.map_err(call)?;
    let found = match surveyed {
        None => Found::Less { end: None },
        Some(survey) => match compare(&due.from, &survey) {
            Compared::Same => Found::Nothing,
            Compared::Less(end) => Found::Less { end },
            Compared::Beyond => {
                let context = Context {
                    cluster: config.cluster.clone(),
                    operation: due.operation.clone(),
                    epoch: due.epoch,
                };
                let saved = save(config, client, &context, due).await.map_err(call)?;
                match saved {
                    SegmentOutcome::Nothing(_) => Found::Nothing,
                    SegmentOutcome::Segment(segment) => {
                        written(config, client, &context, due, &segment).await?
                    }
                }
            }
        },
    };
    Ok(Returned {
        server,
        unix_ms: unix_ms(),
        from: due.from.clone(),
        found,
    })
}

/// Cuts what is beyond. An agent that knows of no operation that deposed its server is claimed for the one that did, if it has
/// heard of no newer one: nobody else is asked, and nobody else's claim is touched.
async fn save(
    config: &ClusterConfig,
    client: &AgentClient,
    context: &Context,
    due: &Due,
) -> Result<SegmentOutcome, AgentCallError> {
    let stall = config.failover.save_timeout;
    let cut = async || {
        client
            .save_binary_logs(context, &due.server, &due.from, stall)
            .await
    };
    match cut().await {
        Err(error) if error.kind() == Some(ErrorKind::StaleEpoch) => {}
        done => return done,
    }
    let claim = Claim {
        cluster: config.cluster.clone(),
        epoch: due.epoch,
        operation: due.operation.clone(),
        manager: config.manager_name.clone(),
        take_over: false,
    };
    let limit = config.failover.call_timeout;
    client.claim(&claim, limit).await?;
    let saved = cut().await;
    if let Err(error) = client.release(context, limit).await {
        tracing::warn!(server = %due.server, error = %chain(&error), "its agent keeps the claim until the next one");
    }
    saved
}

/// `None`: its log does not reach the place.
async fn survey(
    config: &ClusterConfig,
    client: &AgentClient,
    due: &Due,
    stall: Duration,
) -> Result<Option<crate::facts::LogSurvey>, AgentCallError> {
    let asked = client
        .survey(
            &config.cluster,
            &due.server,
            Logs::Binary,
            Some(&due.from),
            None,
            stall,
        )
        .await;
    match asked {
        Ok(survey) => Ok(Some(survey)),
        Err(error) if error.kind() == Some(ErrorKind::RangeNotHeld) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn written(
    config: &ClusterConfig,
    client: &AgentClient,
    context: &Context,
    due: &Due,
    segment: &SegmentRef,
) -> Result<Found, NotYet> {
    let server = &due.server;
    let dir = copy::folder(&config.state_dir, &due.operation);
    let stall = config.failover.save_timeout;
    let path = copy::fetch(client, context, server, segment, &dir, stall)
        .await
        .map_err(|source| NotYet::Copy {
            server: server.clone(),
            source,
        })?;
    let unreadable = |why| NotYet::Unreadable {
        server: server.clone(),
        why,
    };
    let walked = path.clone();
    let (listed, transactions) =
        tokio::task::spawn_blocking(move || binlog_core::transactions(&walked, LISTED))
            .await
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| unreadable(chain(&error)))?;
    let manifest = &segment.manifest;
    Ok(Found::Written(Box::new(Written {
        to: manifest
            .whole_end
            .clone()
            .unwrap_or_else(|| manifest.range.to.clone()),
        transactions,
        listed: listed.into_iter().map(named).collect(),
        dropped_bytes: manifest.dropped_bytes,
        segment: segment.id.clone(),
        copy: path.display().to_string(),
    })))
}

fn named(transaction: TransactionRef) -> LastTransaction {
    LastTransaction {
        end: transaction.end,
        gtid: transaction.gtid.map(|gtid| gtid.to_string()),
        xid: transaction.xid,
    }
}

/// Writes a finding into the operation's journal, and into its report where that is kept. Blocks.
///
/// # Errors
/// [`NotYet::Journal`]; a report that cannot be written is logged only: the journal has it.
pub fn keep(due: &Due, returned: &Returned, report: &Path) -> Result<(), NotYet> {
    let record = Record::Returned(Box::new(returned.clone()));
    journal::append_after_end(&due.journal, &record).map_err(|source| NotYet::Journal {
        server: due.server.clone(),
        source,
    })?;
    let kept = std::fs::read(report).and_then(|text| {
        let mut kept: Report = serde_json::from_slice(&text)?;
        kept.returned = Some(returned.clone());
        report::save(&kept, report)
    });
    if let Err(error) = kept {
        tracing::error!(path = %report.display(), %error, "the report could not be completed");
    }
    Ok(())
}
