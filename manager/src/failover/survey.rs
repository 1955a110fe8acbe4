//! Asks all providers at once what they hold. Reads only.

use std::collections::BTreeMap;

use binlog_core::BinlogPosition;
use futures::future::join_all;
use proto::v1::ErrorKind;

use super::{StopReason, binlog_servers};
use crate::agents::{AgentCallError, AgentClient, Logs};
use crate::config::ClusterConfig;
use crate::execute::again;
use crate::facts::{LogEndKind, LogSurvey};
use crate::observe::{Agents, chain};
use crate::plan::{DeadLog, Holdings};
use crate::topology::{Survivor, Topology};

/// Tries before a dead host counts as not answering.
const TRIES: u32 = 3;

/// Surveys the relay logs of all survivors, the dead primary's binary logs, and the copies of binlog servers. `refused` are
/// agents of the latter that did not grant the cluster.
///
/// # Errors
/// [`StopReason`] if the dead primary's log cannot be read and the loss is not accepted.
pub(super) async fn survey(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &Topology,
    accept_loss: bool,
    refused: &BTreeMap<String, String>,
) -> Result<Holdings, StopReason> {
    let lowest = topology
        .survivors
        .iter()
        .filter(|s| s.applier_failed().is_none())
        .filter_map(|s| s.replica.executed.clone())
        .min();
    let relays = join_all(
        topology
            .survivors
            .iter()
            .map(|s| relay(config, agents, s, lowest.as_ref())),
    );
    let (relays, dead, copies) = futures::join!(
        relays,
        dead_log(config, agents, topology, lowest.as_ref(), accept_loss),
        binlog_servers::survey(config, agents, topology, lowest.as_ref(), refused)
    );
    let dead = dead?;
    let relay: BTreeMap<String, LogSurvey> = topology
        .survivors
        .iter()
        .zip(relays)
        .filter_map(|(s, survey)| Some((s.server.clone(), survey?)))
        .collect();
    let binlog_servers =
        binlog_servers::verify(config, agents, topology, copies, &relay, &dead).await;
    Ok(Holdings {
        relay,
        dead,
        binlog_servers,
    })
}

/// A relay log that cannot be surveyed provides nothing; whether that matters, the plan will say.
async fn relay(
    config: &ClusterConfig,
    agents: &Agents,
    survivor: &Survivor,
    lowest: Option<&BinlogPosition>,
) -> Option<LogSurvey> {
    let client = client_of(config, agents, &survivor.server)?;
    let latest = survivor.replica.read.as_ref();
    let limit = config.failover.progress_timeout;
    let ask = async |from| {
        again(
            config.failover.call_timeout,
            AgentCallError::broke_off,
            || {
                client.survey(
                    &config.cluster,
                    &survivor.server,
                    Logs::Relay,
                    from,
                    latest,
                    limit,
                )
            },
        )
        .await
    };
    match ask(lowest).await {
        Ok(survey) => Some(survey),
        // The place asked for is not there: then everything that is.
        Err(error) => match ask(None).await {
            Ok(survey) => Some(survey),
            Err(_) => {
                tracing::warn!(server = %survivor.server, error = %chain(&error), "relay logs cannot be surveyed");
                None
            }
        },
    }
}

async fn dead_log(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &Topology,
    lowest: Option<&BinlogPosition>,
    accept_loss: bool,
) -> Result<DeadLog, StopReason> {
    let server = topology.dead.clone();
    let client = client_of(config, agents, &server).filter(|_| topology.dead_agent_answers);
    let Some(client) = client else {
        return Ok(DeadLog::Unreachable {
            why: "its agent does not answer".to_owned(),
        });
    };
    let ask = async |from| ask_dead(config, client, &server, from).await;
    let survey = match ask(lowest).await {
        // Purged or never written there: the newest file tells how far it goes.
        Err(error)
            if matches!(
                error.kind(),
                Some(ErrorKind::RangeNotHeld | ErrorKind::NotABoundary)
            ) =>
        {
            ask(None).await
        }
        result => result,
    };
    match survey {
        Ok(survey) => match &survey.end {
            Some(end) if end.kind == LogEndKind::Corrupt && !accept_loss => {
                Err(StopReason::DeadLogCorrupt {
                    server,
                    end: end.clone(),
                })
            }
            _ => Ok(DeadLog::Read {
                survey: Box::new(survey),
            }),
        },
        Err(error) if error.is_lost() => Ok(DeadLog::Unreachable { why: chain(&error) }),
        Err(error) if accept_loss => Ok(DeadLog::GivenUp { why: chain(&error) }),
        Err(source) => Err(StopReason::DeadLog { server, source }),
    }
}

async fn ask_dead(
    config: &ClusterConfig,
    client: &AgentClient,
    server: &str,
    from: Option<&BinlogPosition>,
) -> Result<LogSurvey, AgentCallError> {
    let limit = config.failover.save_timeout;
    let mut tries_left = TRIES;
    loop {
        tries_left -= 1;
        let result = again(
            config.failover.call_timeout,
            AgentCallError::broke_off,
            || client.survey(&config.cluster, server, Logs::Binary, from, None, limit),
        )
        .await;
        match result {
            Err(error) if error.is_lost() && tries_left > 0 => {}
            result => return result,
        }
    }
}

/// The agent of a server, if it answers.
pub(super) fn client_of<'a>(
    config: &ClusterConfig,
    agents: &'a Agents,
    server: &str,
) -> Option<&'a AgentClient> {
    let server = config.servers.iter().find(|s| s.name == server)?;
    agents.of(server)
}
