//! A drain that waits for a transaction of which only a part was received.
//!
//! A MariaDB applier with parallel threads executes transactions ahead of earlier ones (`slave_parallel_mode=optimistic`, the
//! default from 10.5.1 on). Where a later one holds a row lock that an earlier one needs, the server has the later one rolled
//! back; but a thread that waits for the rest of its transaction does not notice. While the receiver runs the rest comes
//! and the knot is undone; once it is stopped for good the earlier transaction tries again and again, and the applier
//! never gets to the end of what was received whole (seen on 10.5 with statements in the log).
//!
//! So where that may be the case the applier is killed, which rolls everything unfinished back, and started once more up to
//! the end of the last whole transaction. Only a replica that goes by position: with GTIDs that START throws the relay
//! logs away.

use std::time::Duration;

use binlog_core::BinlogPosition;
use tokio::time::Instant;

use super::ReplicationError;
use super::halt;
use super::local::{Control, small};
use super::relay::Received;
use crate::mysqld::Deadline;
use crate::mysqld::status::{ReplicaStatus, UsingGtid};
use crate::mysqld::variables::Variables;

/// How long the executed position stands still before anybody looks, and between two looks.
const STILL: Duration = Duration::from_millis(500);
/// How often in a row a thread of the applier must be seen waiting for a lock.
const LOOKS: u8 = 3;
/// Its threads that wait for a row lock.
const WAITING: &str = "SELECT COUNT(*) FROM information_schema.INNODB_TRX t \
                       JOIN information_schema.PROCESSLIST p ON p.ID=t.trx_mysql_thread_id \
                       WHERE t.trx_state='LOCK WAIT' AND p.COMMAND='Slave_worker'";

/// Watches one drain.
#[derive(Debug)]
pub(super) struct Unblock {
    /// Where the applier is to stop; `None` where nothing is to be done.
    end: Option<BinlogPosition>,
    executed: Option<BinlogPosition>,
    looked: Instant,
    waiting: u8,
}

impl Unblock {
    /// For a replica that received this.
    pub(super) fn new(
        control: &Control,
        variables: &Variables,
        status: &ReplicaStatus,
        received: &Received,
    ) -> Self {
        let may_be = control.dialect.version().is_mariadb()
            && status.using_gtid == UsingGtid::No
            && variables.parallel_workers() > 0
            && received.tail.is_some();
        Self {
            end: received.whole_end.clone().filter(|_| may_be),
            executed: None,
            looked: Instant::now(),
            waiting: 0,
        }
    }

    /// Looks, if it is time to, and starts the applier anew where it is stuck. `true` if it did.
    pub(super) async fn look(
        &mut self,
        control: &mut Control,
        status: &ReplicaStatus,
        deadline: Deadline,
    ) -> Result<bool, ReplicationError> {
        let Some(end) = &self.end else {
            return Ok(false);
        };
        if self.executed != status.executed {
            self.executed.clone_from(&status.executed);
            (self.looked, self.waiting) = (Instant::now(), 0);
        }
        if self.looked.elapsed() < STILL {
            return Ok(false);
        }
        self.looked = Instant::now();
        let found = control
            .session
            .query_value(WAITING, small(deadline))
            .await?;
        if found.as_deref().is_none_or(|number| number == "0") {
            self.waiting = 0;
            return Ok(false);
        }
        self.waiting += 1;
        if self.waiting < LOOKS {
            return Ok(false);
        }
        let Some(thread) = halt::kill(control, status, deadline).await? else {
            return Ok(false);
        };
        halt::stopped(control, Some(thread), deadline).await?;
        let start = control.dialect.start_applier_until(end);
        control.session.exec(&start, deadline.remaining()).await?;
        tracing::info!(
            server = control.session.server(),
            %end,
            "the applier waited for the rest of a transaction that nobody sends; it was killed and started up to the last whole one"
        );
        self.end = None;
        Ok(true)
    }
}
