//! Asks binlog servers what their copies hold, and has an event of each compared with one of another provider. Reads only.
//!
//! Guarantee: nothing that goes wrong here stops a failover. What could not be asked or compared is told, and nothing is taken
//! from it.

use std::collections::BTreeMap;

use binlog_core::event::FIRST_EVENT;
use binlog_core::{BinlogPosition, ServerId};
use futures::future::join_all;
use proto::v1::ErrorKind;

use super::survey::client_of;
use crate::agents::{AgentCallError, AgentClient, HeldEvent, Logs};
use crate::config::{BinlogServerConfig, ClusterConfig};
use crate::execute::{COMPARED_EVENTS, again};
use crate::facts::LogSurvey;
use crate::observe::{Agents, chain};
use crate::plan::{
    BinlogServerLog, BinlogServerLogs, DeadLog, Met, Source, compare, meeting_points, reach,
};
use crate::topology::Topology;

/// What binlog servers say of their copies, or why they say nothing.
pub(super) type Surveyed = BTreeMap<String, Result<LogSurvey, String>>;

/// Surveys all of them at once. `refused` are agents that did not grant the cluster, and why: nothing can be cut there.
pub(super) async fn survey(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &Topology,
    lowest: Option<&BinlogPosition>,
    refused: &BTreeMap<String, String>,
) -> Surveyed {
    let surveys = config.binlog_servers.iter().map(async |server| {
        let surveyed = match refused.get(&server.agent.name) {
            Some(why) => Err(format!("its agent does not grant the cluster: {why}")),
            None => match agents.of_binlog_server(server) {
                Ok(client) => ask(config, client, server, topology, lowest)
                    .await
                    .map_err(|error| chain(&error)),
                Err(why) => Err(why),
            },
        };
        (server.name.clone(), surveyed)
    });
    join_all(surveys).await.into_iter().collect()
}

/// Asks from `lowest` on; where that does not lead to what survivors have received, from the file on that they received last: of
/// what lies before, only what lies between is of use, and survivors mostly have that themselves.
async fn ask(
    config: &ClusterConfig,
    client: &AgentClient,
    server: &BinlogServerConfig,
    topology: &Topology,
    lowest: Option<&BinlogPosition>,
) -> Result<LogSurvey, AgentCallError> {
    let primary = ServerId(topology.identity.server_id);
    let received = topology.survivors.iter();
    let received = received.filter_map(|s| s.replica.read.as_ref()).max();
    let newest_file = received.map(|at| BinlogPosition::new(at.file.clone(), FIRST_EVENT));
    let limit = config.failover.save_timeout;
    let asking = async |from| {
        again(
            config.failover.call_timeout,
            AgentCallError::broke_off,
            || client.survey_copies(&config.cluster, &server.name, primary, from, limit),
        )
        .await
    };
    let first = match asking(lowest).await {
        Ok(survey) if reach(&survey) >= received => return Ok(survey),
        Err(error) if !lacks(&error) => return Err(error),
        answer => answer,
    };
    match (asking(newest_file.as_ref()).await, first) {
        (Ok(later), Ok(first)) if reach(&later) <= reach(&first) => Ok(first),
        (Ok(survey), _) | (Err(_), Ok(survey)) => Ok(survey),
        (Err(_), Err(first)) => Err(first),
    }
}

fn lacks(error: &AgentCallError) -> bool {
    matches!(
        error.kind(),
        Some(ErrorKind::RangeNotHeld | ErrorKind::NotABoundary)
    )
}

/// Compares the copies of each with the logs that were read.
pub(super) async fn verify(
    config: &ClusterConfig,
    agents: &Agents,
    topology: &Topology,
    surveyed: Surveyed,
    relay: &BTreeMap<String, LogSurvey>,
    dead: &DeadLog,
) -> BinlogServerLogs {
    let verified = surveyed.into_iter().map(async |(name, surveyed)| {
        let log = match surveyed {
            Ok(survey) => {
                let comparison = Comparison {
                    config,
                    agents,
                    topology,
                    binlog_server: &name,
                };
                comparison.verify(survey, relay, dead).await
            }
            Err(why) => BinlogServerLog::Unusable { why, up_to: None },
        };
        if let BinlogServerLog::Unusable { .. } = &log {
            tracing::warn!(binlog_server = name, "{log}");
        }
        (name, log)
    });
    join_all(verified).await.into_iter().collect()
}

/// The comparison of one binlog server's copies with other logs.
struct Comparison<'a> {
    config: &'a ClusterConfig,
    agents: &'a Agents,
    topology: &'a Topology,
    binlog_server: &'a str,
}

/// How a comparison at one place ended.
enum Compared {
    Same,
    Other(String),
    /// One of both holds nothing there, or the other one cannot say.
    Nothing,
    /// The copies themselves cannot be read there.
    Unreadable(String),
}

impl Comparison<'_> {
    async fn verify(
        &self,
        survey: LogSurvey,
        relay: &BTreeMap<String, LogSurvey>,
        dead: &DeadLog,
    ) -> BinlogServerLog {
        let up_to = reach(&survey).cloned();
        let unusable = |why: String| BinlogServerLog::Unusable {
            why,
            up_to: up_to.clone(),
        };
        let Some(end) = up_to.as_ref() else {
            return unusable("it holds no event of this primary".to_owned());
        };
        let others = self.others(relay, dead);
        let mut points = meeting_points(end, &others).into_iter();
        let mut looked_back = false;
        loop {
            let Some((with, at)) = points.next() else {
                if looked_back {
                    let why = "no event of it could be compared with one of another log: nothing shows that it is this history";
                    return unusable(why.to_owned());
                }
                // Whoever stands at the head of a file holds nothing of it, yet may hold the one before.
                looked_back = true;
                points = meeting_points(end, &self.earlier().await).into_iter();
                continue;
            };
            match self.compare(&with, &at).await {
                Compared::Same => {
                    return BinlogServerLog::Verified {
                        survey: Box::new(survey),
                        with,
                        at,
                    };
                }
                Compared::Other(why) | Compared::Unreadable(why) => return unusable(why),
                Compared::Nothing => {}
            }
        }
    }

    /// How far the logs reach that were read, and what survivors say that they received.
    fn others(
        &self,
        relay: &BTreeMap<String, LogSurvey>,
        dead: &DeadLog,
    ) -> Vec<(Source, BinlogPosition)> {
        let mut others = Vec::new();
        if let Some(end) = dead.survey().and_then(reach) {
            let source = Source {
                server: self.topology.dead.clone(),
                logs: Logs::Binary,
            };
            others.push((source, end.clone()));
        }
        for survivor in &self.topology.survivors {
            let source = Source {
                server: survivor.server.clone(),
                logs: Logs::Relay,
            };
            let whole = relay.get(&survivor.server).and_then(reach);
            let ends = whole.into_iter().chain(survivor.replica.read.as_ref());
            others.extend(ends.map(|end| (source.clone(), end.clone())));
        }
        others
    }

    /// Where the last transaction of each survivor's relay logs ends, however long ago that was.
    async fn earlier(&self) -> Vec<(Source, BinlogPosition)> {
        let limit = self.config.failover.progress_timeout;
        let asked = self.topology.survivors.iter().map(async |survivor| {
            let client = client_of(self.config, self.agents, &survivor.server)?;
            let latest = survivor.replica.read.as_ref();
            let (cluster, server) = (&self.config.cluster, &survivor.server);
            let survey = client
                .survey(cluster, server, Logs::Relay, None, latest, limit)
                .await
                .ok()?;
            let source = Source {
                server: survivor.server.clone(),
                logs: Logs::Relay,
            };
            Some((source, survey.last_transaction?.end))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn compare(&self, with: &Source, at: &BinlogPosition) -> Compared {
        let mut before = at.clone();
        let mut same = false;
        // The last event may be an Xid, which two histories can share by chance; what stands before it is the change itself.
        for _ in 0..COMPARED_EVENTS {
            let (ours, theirs) = futures::join!(self.copied(&before), self.held(with, &before));
            let ours = match ours {
                Ok(event) => event,
                Err(error) if lacks(&error) => None,
                Err(error) => return Compared::Unreadable(chain(&error)),
            };
            match compare(&before, ours, theirs) {
                Met::Same(event) => {
                    same = true;
                    before = event.start;
                }
                Met::Other(..) => {
                    return Compared::Other(format!(
                        "it holds another event before {before} than the {with}: it is of another history"
                    ));
                }
                Met::Nothing => break,
            }
        }
        if same {
            Compared::Same
        } else {
            Compared::Nothing
        }
    }

    async fn copied(&self, before: &BinlogPosition) -> Result<Option<HeldEvent>, AgentCallError> {
        let server = self.config.binlog_server(self.binlog_server);
        let client = server.and_then(|server| self.agents.of_binlog_server(server).ok());
        let Some(client) = client else {
            return Ok(None);
        };
        let primary = ServerId(self.topology.identity.server_id);
        let limit = self.config.failover.save_timeout;
        client
            .describe_copied_event(
                &self.config.cluster,
                self.binlog_server,
                primary,
                before,
                limit,
            )
            .await
    }

    /// A log that cannot say holds nothing to compare with; what that means for the failover, the plan will say.
    async fn held(&self, source: &Source, before: &BinlogPosition) -> Option<HeldEvent> {
        let client = client_of(self.config, self.agents, &source.server)?;
        let mut survivors = self.topology.survivors.iter();
        let survivor = survivors.find(|s| s.server == source.server);
        let latest = survivor.and_then(|s| s.replica.read.as_ref());
        let limit = match source.logs {
            Logs::Relay => self.config.failover.progress_timeout,
            Logs::Binary | Logs::BinlogServer => self.config.failover.save_timeout,
        };
        let (cluster, server) = (&self.config.cluster, &source.server);
        client
            .describe_event(cluster, server, source.logs, before, latest, limit)
            .await
            .ok()
            .flatten()
    }
}
