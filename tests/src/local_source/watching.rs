//! Waiting for what a replica says of itself, and comparing it with the server whose log it replays.

use std::time::{Duration, Instant};

use binlog_core::BinlogPosition;
use node_agent::source::{LocalSource, SourceProgress};

use super::bench::{LIMIT, position};
use super::{Bench, Trouble};
use crate::sandbox::compare;
use crate::sandbox::replica::{self, LogPlace, ReplicaStatus};
use crate::sandbox::wait::{self, Look};

impl Bench {
    /// The replica's status.
    pub(super) async fn status(&self) -> Result<ReplicaStatus, Trouble> {
        Ok(replica::must_status(self.replica()).await?)
    }

    /// Waits until the replica has executed up to `end`; a thread that stops ends the wait.
    pub(super) async fn executed(&self, end: &BinlogPosition) -> Result<ReplicaStatus, Trouble> {
        self.until(&format!("executed up to {end}"), |status| {
            Ok(position(&status.executed()?)? >= *end)
        })
        .await
    }

    /// Waits until the replica has received up to `end`.
    pub(super) async fn received(&self, end: &BinlogPosition) -> Result<ReplicaStatus, Trouble> {
        let wanted = place(end);
        self.until(&format!("received up to {end}"), |status| {
            Ok(status.read()? == wanted)
        })
        .await
    }

    /// Waits for a status; an error of either thread ends the wait.
    pub(super) async fn until(
        &self,
        what: &str,
        holds: impl Fn(&ReplicaStatus) -> Result<bool, Trouble>,
    ) -> Result<ReplicaStatus, Trouble> {
        let began = Instant::now();
        loop {
            let status = self.status().await?;
            if holds(&status)? {
                return Ok(status);
            }
            let seen = format!(
                "read {}, executed {}, receiver {} {:?}, applier {} {:?}",
                status.read()?,
                status.executed()?,
                status.io_running()?,
                status.text("Last_IO_Error")?,
                status.text("Slave_SQL_Running")?,
                status.text("Last_SQL_Error")?,
            );
            let receiver_failed =
                status.io_running()? == "No" && status.text("Last_IO_Errno")? != "0";
            if receiver_failed || status.text("Last_SQL_Errno")? != "0" {
                return Err(Trouble::Stopped {
                    what: what.to_owned(),
                    seen,
                });
            }
            if began.elapsed() > LIMIT {
                return Err(Trouble::Stopped {
                    what: format!("{what} within {LIMIT:?}"),
                    seen,
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a value of a query on the replica.
    pub(super) async fn replica_value(&self, query: &str, wanted: &str) -> Result<(), Trouble> {
        let mut session = self.replica().admin().await?;
        let began = Instant::now();
        loop {
            let found = session.value(query).await.unwrap_or_default();
            if found == wanted {
                return Ok(());
            }
            if began.elapsed() > LIMIT {
                return Err(Trouble::Stopped {
                    what: format!("`{query}` to say {wanted}"),
                    seen: found,
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What differs between the two servers: tables, and GTIDs where they have some.
    pub(super) async fn difference(&self) -> Result<Option<String>, Trouble> {
        let servers = [self.primary(), self.replica()];
        if let Err(text) = compare::all_equal(&servers).await? {
            return Ok(Some(text));
        }
        let (ours, theirs) = if self.is_mariadb() {
            ("SELECT @@gtid_binlog_pos", "SELECT @@gtid_slave_pos")
        } else if self.gtid {
            (
                "SELECT @@GLOBAL.gtid_executed",
                "SELECT @@GLOBAL.gtid_executed",
            )
        } else {
            return Ok(None);
        };
        // The order of MariaDB's domains is by chance.
        let sorted = |text: String| {
            let mut parts: Vec<String> =
                text.split(',').map(|part| part.trim().to_owned()).collect();
            parts.sort_unstable();
            parts.join(",")
        };
        let ours = sorted(self.primary().value(ours).await?);
        let theirs = sorted(self.replica().value(theirs).await?);
        Ok((ours != theirs).then(|| format!("GTIDs {ours} and {theirs}")))
    }

    /// Waits until the applier waits for more.
    pub(super) async fn idle(&self) -> Result<(), Trouble> {
        wait::until("the applier to wait for more", LIMIT, || async {
            let status = replica::must_status(self.replica()).await?;
            let state = status.text("Slave_SQL_Running_State")?;
            let waits = state.contains("waiting for") || state.contains("Waiting for");
            Ok(if waits {
                Look::Done(())
            } else {
                Look::NotYet(state.to_owned())
            })
        })
        .await?;
        Ok(())
    }
}

fn place(position: &BinlogPosition) -> LogPlace {
    LogPlace::new(position.file.as_str(), position.offset)
}

/// Waits until a source has done something; returns what it had done then.
pub(super) async fn reaches(
    source: &LocalSource,
    what: &str,
    done: impl FnMut(&SourceProgress) -> bool,
) -> Result<SourceProgress, Trouble> {
    let mut progress = source.progress();
    let found = tokio::time::timeout(LIMIT, progress.wait_for(done)).await;
    match found {
        Ok(Ok(progress)) => Ok(progress.clone()),
        Ok(Err(_)) | Err(_) => Err(Trouble::Stopped {
            what: format!("the local source: {what}"),
            seen: format!("{:?}", source.progress().borrow()),
        }),
    }
}
