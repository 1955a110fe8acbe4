//! Making a running server read-only and ending the sessions that could still want to write.
//!
//! `SET GLOBAL read_only=1` waits for statements and commits under way (a lock that a client holds, too), so sessions are ended
//! beside it, from the first moment on and again and again until it has come through; from the moment it waits no new write
//! begins. Sessions of users with SUPER (or what newer servers have for it) stay: one of them is the operator's. `read_only`
//! does not hold for them; where the server has `super_read_only`, that does.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::interval;

use crate::mysqld::version::ServerVersion;
use crate::mysqld::{Deadline, Endpoint, Row, Session, SqlError};

/// How often sessions are ended while the statement waits.
const AGAIN: Duration = Duration::from_millis(20);
/// No such thread: it ended by itself.
const ERRNO_NO_SUCH_THREAD: u16 = 1094;
/// What lets a user write on a read-only server, in the words of all versions.
const PRIVILEGES: &str = "'SUPER','CONNECTION_ADMIN','READ_ONLY ADMIN','READ ONLY ADMIN'";
/// Users that are the server itself, or nobody yet.
const NO_CLIENTS: [&str; 3] = ["system user", "event_scheduler", "unauthenticated user"];

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shut {
    /// Sessions that were ended.
    pub(super) ended: usize,
}

/// One session of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Connection {
    id: u32,
    user: String,
    command: String,
}

/// The two sessions that it takes, and what must be known beforehand to act without a question.
#[derive(Debug)]
pub(super) struct Hands {
    setter: Session,
    killer: Session,
    exempt: BTreeSet<String>,
}

impl Hands {
    /// Connects.
    ///
    /// # Errors
    /// The server's or the connection's.
    pub(super) async fn open(endpoint: &Endpoint, deadline: Deadline) -> Result<Self, SqlError> {
        let setter = Session::connect(endpoint, deadline.remaining()).await?;
        let mut killer = Session::connect(endpoint, deadline.remaining()).await?;
        let exempt = privileged(&mut killer, deadline).await?;
        Ok(Self {
            setter,
            killer,
            exempt,
        })
    }

    /// Whether both still answer; learns anew whom `read_only` does not hold for.
    pub(super) async fn are_alive(&mut self, deadline: Deadline) -> bool {
        if self
            .setter
            .exec("DO 1", deadline.remaining())
            .await
            .is_err()
        {
            return false;
        }
        match privileged(&mut self.killer, deadline).await {
            Ok(exempt) => {
                self.exempt = exempt;
                true
            }
            Err(_) => false,
        }
    }

    /// Makes the server read-only, and ends the sessions of clients: at once, until it has come through, and once more.
    ///
    /// # Errors
    /// The server's or the connection's. After a lost answer it may or may not be read-only: try again.
    pub(super) async fn shut(&mut self, deadline: Deadline) -> Result<Shut, SqlError> {
        let Self {
            setter,
            killer,
            exempt,
        } = self;
        let own = [setter.connection_id(), killer.connection_id()];
        let statement = statement(setter.version());
        let setting = setter.exec(statement, deadline.remaining());
        tokio::pin!(setting);
        let mut again = interval(AGAIN);
        let mut ended = 0;
        loop {
            tokio::select! {
                biased;
                set = &mut setting => break set?,
                _ = again.tick() => {
                    // Not cancelled by the other branch in the middle of a statement: it runs to its end here.
                    ended += end_sessions(killer, &own, exempt, deadline).await?;
                }
            }
        }
        ended += end_sessions(killer, &own, exempt, deadline).await?;
        Ok(Shut { ended })
    }
}

/// `super_read_only`, which switches `read_only` on with it, came with MySQL 5.7.8.
fn statement(version: &ServerVersion) -> &'static str {
    if version.is_mysql_from(5, 7, 8) {
        "SET GLOBAL super_read_only=1"
    } else {
        "SET GLOBAL read_only=1"
    }
}

/// Names of users for whom `read_only` does not hold.
async fn privileged(
    session: &mut Session,
    deadline: Deadline,
) -> Result<BTreeSet<String>, SqlError> {
    let sql = format!(
        "SELECT DISTINCT GRANTEE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE IN ({PRIVILEGES})"
    );
    let rows = session.query_rows(&sql, deadline.remaining()).await?;
    rows.iter()
        .map(|row| Ok(user_of(row.text("GRANTEE")?).to_owned()))
        .collect()
}

/// The user in `'user'@'host'`.
fn user_of(grantee: &str) -> &str {
    let user = grantee
        .rsplit_once('@')
        .map_or(grantee, |(user, _)| user)
        .trim();
    user.strip_prefix('\'')
        .and_then(|user| user.strip_suffix('\''))
        .unwrap_or(user)
}

async fn end_sessions(
    session: &mut Session,
    own: &[u32],
    exempt: &BTreeSet<String>,
    deadline: Deadline,
) -> Result<usize, SqlError> {
    let rows = session
        .query_rows(
            "SELECT ID, USER, COMMAND FROM information_schema.PROCESSLIST",
            deadline.remaining(),
        )
        .await?;
    let connections = rows
        .iter()
        .map(connection)
        .collect::<Result<Vec<_>, SqlError>>()?;
    let mut ended = 0;
    for id in to_end(&connections, own, exempt) {
        match session
            .exec(&format!("KILL {id}"), deadline.remaining())
            .await
        {
            Ok(()) => ended += 1,
            Err(error) if error.errno() == Some(ERRNO_NO_SUCH_THREAD) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}

fn connection(row: &Row) -> Result<Connection, SqlError> {
    Ok(Connection {
        id: row.number("ID")?,
        user: row.text_or_empty("USER").to_owned(),
        command: row.text_or_empty("COMMAND").to_owned(),
    })
}

/// Sessions of clients for whom `read_only` holds. Replicas may go on reading this server's log.
fn to_end(connections: &[Connection], own: &[u32], exempt: &BTreeSet<String>) -> Vec<u32> {
    connections
        .iter()
        .filter(|connection| {
            !own.contains(&connection.id)
                && !exempt.contains(&connection.user)
                && !NO_CLIENTS.contains(&connection.user.as_str())
                && !connection.command.starts_with("Binlog Dump")
                // A session that a KILL has reached already.
                && connection.command != "Killed"
        })
        .map(|connection| connection.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_without_super_are_ended_and_nobody_else() {
        let connections: Vec<_> = [
            (1, "system user", "Connect"),
            (2, "event_scheduler", "Daemon"),
            (3, "repl", "Binlog Dump"),
            (4, "repl", "Binlog Dump GTID"),
            (5, "app", "Sleep"),
            (6, "app", "Query"),
            (7, "root", "Sleep"),
            (8, "mha_agent", "Query"),
            (9, "unauthenticated user", "Connect"),
            (10, "app", "Killed"),
            (11, "", "Sleep"),
        ]
        .into_iter()
        .map(|(id, user, command): (u32, &str, &str)| Connection {
            id,
            user: user.to_owned(),
            command: command.to_owned(),
        })
        .collect();
        let exempt = BTreeSet::from(["root".to_owned()]);
        assert_eq!(to_end(&connections, &[8], &exempt), [5, 6, 11]);
    }

    #[test]
    fn who_has_super_is_kept_from_writing_where_the_server_can() {
        for (version, expected) in [
            ("5.6.24-log", "SET GLOBAL read_only=1"),
            ("5.7.7-rc", "SET GLOBAL read_only=1"),
            ("5.7.22", "SET GLOBAL super_read_only=1"),
            ("8.4.3", "SET GLOBAL super_read_only=1"),
            ("10.11.11-MariaDB", "SET GLOBAL read_only=1"),
        ] {
            let version = ServerVersion::parse(version).unwrap();
            assert_eq!(statement(&version), expected, "{version:?}");
        }
    }

    #[test]
    fn a_user_is_found_in_its_quotes() {
        for (grantee, user) in [
            ("'root'@'localhost'", "root"),
            ("'a@b'@'%'", "a@b"),
            ("''@'%'", ""),
            ("'it''s'@'%'", "it''s"),
            ("role", "role"),
        ] {
            assert_eq!(user_of(grantee), user);
        }
    }
}
