//! One connection to the local mysqld, with a deadline on every statement.
//!
//! Invariant: the driver's connection is taken out of the session while a statement runs and put back only after its
//! whole answer was read. Whatever interrupts the wait (deadline, `select!`, a dropped future) therefore drops the
//! connection with it: the next statement can never read the answer of the last one. Such a session is poisoned.

use std::path::Path;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::time::{Instant, timeout};

use super::endpoint::os_user;
use super::{Endpoint, Row, ServerVersion, SqlError};

/// Server errors that carry a piece of the statement in their text, and so perhaps a password.
const ERRNO_PARSE: u16 = 1064;

/// Access denied: with or without a password, and to MariaDB's accounts of socket authentication.
const ERRNOS_LOGIN: [u16; 2] = [1045, 1698];

/// A connection to one server.
pub struct Session {
    server: String,
    conn: Option<Conn>,
    version: ServerVersion,
    connection_id: u32,
}

impl Session {
    /// Connects and prepares the session (no `sql_mode`, so that quoting means the same everywhere) within `limit`.
    pub async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Self, SqlError> {
        let unreachable = |reason: String| SqlError::Unreachable {
            server: endpoint.server.clone(),
            reason,
        };
        let Some(socket) = path_text(&endpoint.socket) else {
            return Err(unreachable("the socket's path is not UTF-8".to_owned()));
        };
        let options = OptsBuilder::default()
            .socket(Some(socket))
            .user(Some(endpoint.user.clone()))
            .pass(endpoint.password.as_ref().map(|p| p.expose().to_owned()))
            // Both known here, so that connecting asks the server nothing.
            .max_allowed_packet(Some(64 << 20))
            .wait_timeout(Some(28_800))
            .stmt_cache_size(0)
            .prefer_socket(false);
        let connecting = async {
            let mut conn = Conn::new(options).await?;
            let version: Option<String> = conn.query_first("SELECT @@version").await?;
            conn.query_drop("SET NAMES utf8mb4, SESSION sql_mode=''")
                .await?;
            Ok::<_, mysql_async::Error>((conn, version.unwrap_or_default()))
        };
        let (conn, version) = match timeout(limit, connecting).await {
            Err(_) => {
                return Err(unreachable(format!("no answer within {limit:?}")));
            }
            Ok(Err(mysql_async::Error::Server(error))) => {
                return Err(SqlError::Refused {
                    server: endpoint.server.clone(),
                    what: "connect".to_owned(),
                    text: refused_login(endpoint, error.code, error.message),
                    errno: error.code,
                });
            }
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Ok(Ok(connected)) => connected,
        };
        let version = ServerVersion::parse(&version).ok_or_else(|| SqlError::UnexpectedAnswer {
            server: endpoint.server.clone(),
            what: "connect".to_owned(),
            column: "@@version".to_owned(),
            expected: "a version number",
            found: version.chars().take(120).collect(),
        })?;
        Ok(Self {
            server: endpoint.server.clone(),
            connection_id: conn.id(),
            conn: Some(conn),
            version,
        })
    }

    /// Server name of the agent's configuration.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Flavor and version.
    pub fn version(&self) -> &ServerVersion {
        &self.version
    }

    /// The server's number for this connection.
    pub fn connection_id(&self) -> u32 {
        self.connection_id
    }

    /// True if no statement can be sent any more.
    pub fn is_poisoned(&self) -> bool {
        self.conn.is_none()
    }

    /// Runs a statement and returns all rows. `what` describes it in errors; `sql` is never printed.
    pub async fn query(
        &mut self,
        what: &str,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<Row>, SqlError> {
        let Some(mut conn) = self.conn.take() else {
            return Err(SqlError::Poisoned {
                server: self.server.clone(),
                what: what.to_owned(),
            });
        };
        let began = Instant::now();
        // The connection lives in this future: if it is dropped, so is the connection.
        let asked = timeout(limit, async {
            let rows: Result<Vec<mysql_async::Row>, _> = conn.query(sql).await;
            (conn, rows)
        })
        .await;
        match asked {
            Err(_) => Err(self.unknown(what, began, "the answer did not come".to_owned())),
            Ok((conn, Ok(rows))) => {
                self.conn = Some(conn);
                Ok(rows
                    .into_iter()
                    .map(|row| Row::from_driver(&self.server, what, row))
                    .collect())
            }
            Ok((conn, Err(mysql_async::Error::Server(error)))) => {
                self.conn = Some(conn);
                Err(SqlError::Refused {
                    server: self.server.clone(),
                    what: what.to_owned(),
                    errno: error.code,
                    text: if error.code == ERRNO_PARSE {
                        "syntax error (the statement is not shown)".to_owned()
                    } else {
                        error.message
                    },
                })
            }
            Ok((_, Err(error))) => Err(self.unknown(what, began, error.to_string())),
        }
    }

    /// [`Session::query`] of a statement without a secret: the statement is its own description.
    pub async fn query_rows(&mut self, sql: &str, limit: Duration) -> Result<Vec<Row>, SqlError> {
        self.query(sql, sql, limit).await
    }

    /// First row of a statement without a secret, if any.
    pub async fn query_row(&mut self, sql: &str, limit: Duration) -> Result<Option<Row>, SqlError> {
        Ok(self.query_rows(sql, limit).await?.into_iter().next())
    }

    /// First column of the first row of a statement without a secret; NULL and no row are `None`.
    pub async fn query_value(
        &mut self,
        sql: &str,
        limit: Duration,
    ) -> Result<Option<String>, SqlError> {
        let row = self.query_row(sql, limit).await?;
        Ok(row.and_then(|row| row.first().map(str::to_owned)))
    }

    /// Runs a statement without a secret for its effect.
    pub async fn exec(&mut self, sql: &str, limit: Duration) -> Result<(), SqlError> {
        self.query(sql, sql, limit).await.map(drop)
    }

    /// Ends the session politely, within `limit`; a session that cannot be ended so is dropped.
    pub async fn close(mut self, limit: Duration) {
        if let Some(conn) = self.conn.take() {
            // Either way the connection is gone afterwards; the server notices a closed socket as well.
            let _ = timeout(limit, conn.disconnect()).await;
        }
    }

    fn unknown(&self, what: &str, began: Instant, reason: String) -> SqlError {
        SqlError::OutcomeUnknown {
            server: self.server.clone(),
            what: what.to_owned(),
            waited: began.elapsed(),
            reason,
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.server)
            .field("version", &self.version.text)
            .field("connection_id", &self.connection_id)
            .field("poisoned", &self.is_poisoned())
            .finish()
    }
}

/// A string literal with its quotes. Right for sessions without `NO_BACKSLASH_ESCAPES`, which [`Session::connect`] ensures.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\x1a' => quoted.push_str("\\Z"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// What a server says of a refused login, and what the agent had offered.
fn refused_login(endpoint: &Endpoint, errno: u16, text: String) -> String {
    if !ERRNOS_LOGIN.contains(&errno) {
        return text;
    }
    let user = &endpoint.user;
    match endpoint.password {
        Some(_) => {
            format!("{text}; offered was user {user} with the password of its password_file")
        }
        None => format!(
            "{text}; offered was user {user} without a password, so by socket authentication as OS user {}",
            os_user()
        ),
    }
}

fn path_text(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn quoting_leaves_no_way_out_of_the_literal() {
        assert_eq!(quote("mysql-bin.000001"), "'mysql-bin.000001'");
        assert_eq!(quote("a'b\\c"), "'a\\'b\\\\c'");
        assert_eq!(quote("\\' OR 1 -- "), "'\\\\\\' OR 1 -- '");
        assert_eq!(quote("n\n\r\0\x1a"), "'n\\n\\r\\0\\Z'");
    }

    fn endpoint(socket: &Path) -> Endpoint {
        Endpoint {
            server: "db1:3306".to_owned(),
            socket: socket.to_path_buf(),
            user: "mha".to_owned(),
            password: None,
        }
    }

    #[tokio::test]
    async fn no_socket_is_unreachable() {
        let folder = tempfile::tempdir().unwrap();
        let error = Session::connect(
            &endpoint(&folder.path().join("no.sock")),
            Duration::from_secs(5),
        )
        .await
        .unwrap_err();
        assert!(matches!(error, SqlError::Unreachable { .. }), "{error}");
        assert!(error.lost_connection());
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mute.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let mute = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
        });
        let began = std::time::Instant::now();
        let error = Session::connect(&endpoint(&path), Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, SqlError::Unreachable { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(60));
        // The connection was dropped, not kept: the peer sees the end of the stream.
        mute.await.unwrap();
    }
}
