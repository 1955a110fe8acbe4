//! What the receiver of the agent's own server says of its source, and for how long it has heard nothing.
//!
//! The silence is the shortest of what can be had: the last heartbeat (where the server shows one) and the last write to the
//! newest relay log. It is an upper bound: a receiver may have heard something that neither shows.

use std::path::Path;
use std::time::{Duration, SystemTime};

use proto::probe::Receiver;

use crate::agent::LocalServer;
use crate::error::chain;
use crate::mysqld::{Deadline, Dialect, Endpoint, Remembered, Session, SqlError, status};
use crate::replication::{ChannelRecord, observed_as_original};

/// Asks within `deadline`.
///
/// # Errors
/// Why nothing is known, as a sentence: the server does not answer, or is no replica.
pub async fn ask(server: &LocalServer, deadline: Deadline) -> Result<Receiver, String> {
    let endpoint = Endpoint::from_config(&server.config).map_err(|error| chain(&error))?;
    let asked = async {
        let mut session = Session::connect(&endpoint, deadline.remaining()).await?;
        let dialect = Dialect::new(session.version().clone());
        let found = status::read(&mut session, &dialect, deadline.remaining()).await?;
        let heartbeat = match &found {
            Some(found) => heartbeat_age(&mut session, &found.channel, deadline).await?,
            None => None,
        };
        session.close(deadline.remaining()).await;
        Ok::<_, SqlError>((found, heartbeat))
    };
    let (found, heartbeat) = tokio::time::timeout(deadline.remaining(), asked)
        .await
        .map_err(|_| "the server did not answer in time".to_owned())?
        .map_err(|error| chain(&error))?;
    let mut found = found.ok_or("the server is no replica")?;
    if let Ok(Some(record)) = ChannelRecord::load(&server.config.state_dir) {
        observed_as_original(&mut found, &record);
    }
    let written = server
        .remembered()
        .and_then(|known| relay_log_age(&known, SystemTime::now()));
    let (errno, error) = found
        .receiver_error
        .map(|error| (error.errno, error.text))
        .unwrap_or_default();
    Ok(Receiver {
        state: found.receiver.into(),
        source_host: found.source_host,
        source_port: found.source_port,
        errno,
        error,
        silent: [heartbeat, written].into_iter().flatten().min(),
        read: found.read,
    })
}

/// Age of the last heartbeat; `None` where the server shows none, or none has come.
async fn heartbeat_age(
    session: &mut Session,
    channel: &str,
    deadline: Deadline,
) -> Result<Option<Duration>, SqlError> {
    let sql = if session.version().is_mysql_from(5, 7, 0) {
        format!(
            "SELECT TIMESTAMPDIFF(MICROSECOND, LAST_HEARTBEAT_TIMESTAMP, NOW(6)) \
             FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME={}",
            crate::mysqld::session::quote(channel)
        )
    } else {
        "SELECT TIMESTAMPDIFF(MICROSECOND, VARIABLE_VALUE, NOW()) \
         FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='SLAVE_LAST_HEARTBEAT'"
            .to_owned()
    };
    let age = match session.query_value(&sql, deadline.remaining()).await {
        Ok(age) => age,
        // A server without these tables, or an account that may not read them.
        Err(SqlError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    // Negative where the wall clock was set back.
    Ok(age
        .and_then(|text| text.parse::<i64>().ok())
        .map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
        // Before the first heartbeat it is the zero date or one of the epoch.
        .filter(|age| *age < Duration::from_secs(365 * 86_400)))
}

/// Time since the newest relay log was written.
fn relay_log_age(known: &Remembered, now: SystemTime) -> Option<Duration> {
    let base = known.relay_log_basename.as_deref()?;
    newest_write(base).map(|written| now.duration_since(written).unwrap_or_default())
}

fn newest_write(base: &Path) -> Option<SystemTime> {
    let prefix = format!("{}.", base.file_name()?.to_str()?);
    std::fs::read_dir(base.parent()?)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| {
                name.strip_prefix(&prefix).is_some_and(|number| {
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
                })
            })
        })
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relay_logs_count_and_the_newest_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("relay-bin");
        assert_eq!(newest_write(&base), None);
        let old = SystemTime::now() - Duration::from_secs(500);
        for (name, age) in [
            ("relay-bin.000001", 90),
            ("relay-bin.000002", 60),
            ("relay-bin.index", 0),
            ("relay-bin.0000x", 0),
            ("other.000003", 0),
        ] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(old - Duration::from_secs(age)).unwrap();
        }
        assert_eq!(newest_write(&base), Some(old - Duration::from_secs(60)));
    }
}
