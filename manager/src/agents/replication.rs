//! Calls that change a survivor.

use std::time::Duration;

use binlog_core::BinlogPosition;
use proto::v1;

use super::client::{AgentClient, Result, unary, wire_context};
use super::convert::{self, BadAnswer, to_wire};
use super::stream::{self, Step};
use super::values::{Applied, ApplyWay, Context, Promoted, Repointed, StoppedReceiver, Waits};
use crate::facts::{Identity, Replica};
use crate::topology::Standing;

impl AgentClient {
    /// Stops the receiver. Idempotent.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn stop_receiver(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<StoppedReceiver> {
        const CALL: &str = "StopReceiver";
        let request = v1::StopReceiverRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().stop_receiver(request),
        )
        .await?;
        Ok(StoppedReceiver {
            status: self.status(CALL, answer.status)?,
            was_running: answer.was_running,
        })
    }

    /// Drains the applier, then replays segments. Idempotent.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn apply(
        &self,
        context: &Context,
        server: &str,
        segment_ids: Vec<String>,
        until: &BinlogPosition,
        (source, standing): (&Identity, Option<&Standing>),
        stall: Duration,
    ) -> Result<Applied> {
        const CALL: &str = "ApplyLogs";
        /// Agents judge progress; a status that never changes is still not believed forever.
        const PATIENCE: u32 = 20;
        let request = v1::ApplyLogsRequest {
            context: Some(wire_context(context, server, stall)),
            segment_ids,
            until: Some(to_wire(until)),
            source: Some(wire_source(source)),
            standing: standing.map(|standing| v1::GtidStanding {
                gtids: standing.gtids.clone(),
                position: Some(to_wire(&standing.position)),
            }),
        };
        let mut client = self.replication();
        let mut last = None;
        let mut same = tokio::time::Instant::now();
        let step = |message: v1::ApplyProgress| match message.event {
            Some(v1::apply_progress::Event::Status(status)) => {
                if last.as_ref() != Some(&status) {
                    last = Some(status);
                    same = tokio::time::Instant::now();
                }
                Ok(if same.elapsed() < stall * PATIENCE {
                    Step::Moved
                } else {
                    Step::Still
                })
            }
            Some(v1::apply_progress::Event::Done(done)) => applied(done).map(Step::Done),
            None => Err(BadAnswer::new("event", "a status or a result", "nothing")),
        };
        stream::drive(self.name(), CALL, stall, client.apply_logs(request), step).await
    }

    /// Makes the server no replica any more; it stays read-only. `continues` names an interrupted operation that may have
    /// done it already.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn promote(
        &self,
        context: &Context,
        server: &str,
        executed_at_least: &BinlogPosition,
        continues: Option<&str>,
        limit: Duration,
    ) -> Result<Promoted> {
        const CALL: &str = "Promote";
        let request = v1::PromoteRequest {
            context: Some(wire_context(context, server, limit)),
            executed_at_least: Some(to_wire(executed_at_least)),
            continues: continues.unwrap_or_default().to_owned(),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().promote(request),
        )
        .await?;
        let convert = || {
            Ok(Promoted {
                position: convert::required("position", answer.position)?,
                gtid_executed: answer.gtid_executed,
                executed: convert::required("executed", answer.executed)?,
                gtid_before_reset: answer.gtid_before_reset,
            })
        };
        convert().map_err(self.bad(CALL))
    }

    /// read_only=0: the point of no return. What became of `wait_for_replicas`, if that was asked for.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn make_writable(
        &self,
        context: &Context,
        server: &str,
        wait_for_replicas: bool,
        limit: Duration,
    ) -> Result<Option<Waits>> {
        const CALL: &str = "MakeWritable";
        let request = v1::MakeWritableRequest {
            context: Some(wire_context(context, server, limit)),
            wait_for_replicas,
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().make_writable(request),
        )
        .await?;
        if answer.read_only {
            return Err(self.bad(CALL)(BadAnswer::new("read_only", "false", "true")));
        }
        Ok(wait_for_replicas.then(|| waits(answer)))
    }

    /// Points the replica at a new source.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn repoint(
        &self,
        context: &Context,
        server: &str,
        to: &crate::config::HostPort,
        position: &BinlogPosition,
        executed_at_least: &BinlogPosition,
        limit: Duration,
    ) -> Result<Repointed> {
        const CALL: &str = "Repoint";
        let request = v1::RepointRequest {
            context: Some(wire_context(context, server, limit)),
            host: to.host.clone(),
            port: u32::from(to.port),
            position: Some(to_wire(position)),
            keep_gtid_mode: true,
            executed_at_least: Some(to_wire(executed_at_least)),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().repoint(request),
        )
        .await?;
        Ok(Repointed {
            status: self.status(CALL, answer.status)?,
            executed_before: convert::position("executed_before", answer.executed_before)
                .map_err(self.bad(CALL))?,
            gtid_before: answer.gtid_before,
        })
    }

    /// Undoes what was done to a survivor before the promotion.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn resume_replication(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<Replica> {
        const CALL: &str = "ResumeReplication";
        let request = v1::ResumeReplicationRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().resume_replication(request),
        )
        .await?;
        self.status(CALL, answer.status)
    }
}

fn wire_source(identity: &Identity) -> v1::SourceIdentity {
    let flavor = match identity.flavor {
        crate::facts::Flavor::Mysql => v1::Flavor::Mysql,
        crate::facts::Flavor::MariaDb => v1::Flavor::Mariadb,
    };
    v1::SourceIdentity {
        server_id: identity.server_id,
        server_uuid: identity.server_uuid.clone(),
        flavor: flavor.into(),
        version: identity.version.clone(),
        gtid_mode: identity.gtid_mode.clone(),
        binlog_checksum: identity.binlog_checksum.clone(),
    }
}

fn applied(done: v1::ApplyResult) -> std::result::Result<Applied, BadAnswer> {
    let way = match done.way() {
        v1::ApplyWay::Unspecified => None,
        v1::ApplyWay::BesideByGtid => Some(ApplyWay::BesideByGtid),
        v1::ApplyWay::BesideFromRead => Some(ApplyWay::BesideFromRead),
        v1::ApplyWay::Stopped => Some(ApplyWay::Stopped),
    };
    let way = way.map(|way| (way, done.way_reason.clone()));
    Ok(Applied {
        executed_before: convert::position("executed_before", done.executed_before)?,
        executed_drained: convert::position("executed_drained", done.executed_drained)?,
        executed_after: convert::required("executed_after", done.executed_after)?,
        gtid_executed: done.gtid_executed,
        half_transaction: done.half_transaction,
        applier_killed: done.applier_killed,
        applier_started: done.applier_started,
        maybe_twice: done.maybe_twice,
        phases_us: [done.drain_us, done.switch_us, done.replay_us],
        connections: done.connections,
        way,
    })
}

fn waits(answer: v1::MakeWritableResponse) -> Waits {
    if !answer.waits_by.is_empty() {
        return Waits::By {
            variable: answer.waits_by,
        };
    }
    Waits::Not {
        why: if answer.waits_not.is_empty() {
            "its agent does not say (is it of an older release?)".to_owned()
        } else {
            answer.waits_not
        },
    }
}
