//! SQL for tests: one session with a limit on every statement.
//!
//! A session whose statement had no answer in time is dropped and refuses further use: the next answer would be the old
//! one. It never reconnects by itself, since a session has state (temporary tables, locks).

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};

use super::error::SandboxError;

/// How to reach a server, and as whom.
#[derive(Debug, Clone)]
pub struct Login {
    /// Server name in errors.
    pub server: String,
    /// Where.
    pub target: Target,
    /// Account name.
    pub user: String,
    /// Password.
    pub password: Option<String>,
    /// Default database.
    pub database: Option<String>,
    /// Limit of each statement.
    pub limit: Duration,
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Target {
    /// Unix socket.
    Socket(PathBuf),
    /// TCP on a loopback address.
    Tcp(Ipv4Addr, u16),
}

/// One row with its column names; values as text, NULL as `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    fields: Vec<(String, Option<String>)>,
}

impl Record {
    fn new(row: Row) -> Self {
        let names: Vec<String> = row
            .columns_ref()
            .iter()
            .map(|column| column.name_str().into_owned())
            .collect();
        let values = row.unwrap().into_iter().map(text);
        Self {
            fields: names.into_iter().zip(values).collect(),
        }
    }

    /// The same values under other column names.
    pub(crate) fn renamed(self, name: impl Fn(&str) -> String) -> Self {
        let fields = self.fields.into_iter();
        Self {
            fields: fields
                .map(|(column, value)| (name(&column), value))
                .collect(),
        }
    }

    /// The value of a column; `None` if it is NULL or absent.
    pub fn get(&self, column: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(name, _)| name == column)
            .and_then(|(_, value)| value.as_deref())
    }

    /// All columns in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// The value of the column with this number, from 0.
    pub fn at(&self, index: usize) -> Option<&str> {
        self.fields
            .get(index)
            .and_then(|(_, value)| value.as_deref())
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        // Only prepared statements answer in other types; this client sends text.
        other => Some(other.as_sql(true)),
    }
}

/// One session.
#[derive(Debug)]
pub struct Client {
    login: Login,
    conn: Option<Conn>,
}

impl Client {
    /// Opens a session.
    pub async fn connect(login: &Login) -> Result<Self, SandboxError> {
        let mut opts = OptsBuilder::default()
            .user(Some(&login.user))
            .pass(login.password.as_ref())
            .db_name(login.database.as_ref())
            .prefer_socket(false)
            .tcp_nodelay(true)
            // Known values spare a query at each connect.
            .max_allowed_packet(Some(16 * 1024 * 1024))
            .wait_timeout(Some(28_800));
        opts = match &login.target {
            Target::Socket(path) => opts.socket(Some(path.display().to_string())),
            Target::Tcp(address, port) => opts.ip_or_hostname(address.to_string()).tcp_port(*port),
        };
        let conn = limited(login, "connect", Conn::new(opts)).await?;
        Ok(Self {
            login: login.clone(),
            conn: Some(conn),
        })
    }

    /// The server's name.
    pub fn server(&self) -> &str {
        &self.login.server
    }

    /// The server's number of this session.
    pub fn id(&self) -> Option<u32> {
        self.conn.as_ref().map(Conn::id)
    }

    /// Runs a statement and ignores rows.
    pub async fn exec(&mut self, statement: &str) -> Result<(), SandboxError> {
        let mut conn = self.take()?;
        let result = limited(&self.login, statement, conn.query_drop(statement)).await;
        self.put_back(conn, &result);
        result
    }

    /// Runs a statement and returns its rows.
    pub async fn rows(&mut self, statement: &str) -> Result<Vec<Record>, SandboxError> {
        let mut conn = self.take()?;
        let result = limited(&self.login, statement, conn.query::<Row, _>(statement)).await;
        self.put_back(conn, &result);
        Ok(result?.into_iter().map(Record::new).collect())
    }

    /// The first row.
    pub async fn row(&mut self, statement: &str) -> Result<Option<Record>, SandboxError> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// The first column of the first row, which must be there.
    pub async fn value(&mut self, statement: &str) -> Result<String, SandboxError> {
        let row = self.row(statement).await?;
        row.as_ref()
            .and_then(|row| row.at(0))
            .map(str::to_owned)
            .ok_or_else(|| SandboxError::Answer {
                server: self.login.server.clone(),
                statement: statement.to_owned(),
                wanted: "value".to_owned(),
            })
    }

    fn take(&mut self) -> Result<Conn, SandboxError> {
        self.conn.take().ok_or_else(|| SandboxError::SessionLost {
            server: self.login.server.clone(),
        })
    }

    /// Keeps the connection only after a complete answer, be it one that is an error of the server.
    fn put_back<T>(&mut self, conn: Conn, result: &Result<T, SandboxError>) {
        match result {
            Ok(_)
            | Err(SandboxError::Sql {
                source: mysql_async::Error::Server(_),
                ..
            }) => self.conn = Some(conn),
            Err(_) => drop(conn),
        }
    }

    /// Says goodbye to the server.
    pub async fn close(mut self) -> Result<(), SandboxError> {
        match self.conn.take() {
            Some(conn) => limited(&self.login, "disconnect", conn.disconnect()).await,
            None => Ok(()),
        }
    }
}

async fn limited<T>(
    login: &Login,
    statement: &str,
    work: impl Future<Output = Result<T, mysql_async::Error>>,
) -> Result<T, SandboxError> {
    let shown = || statement.chars().take(300).collect::<String>();
    match tokio::time::timeout(login.limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(SandboxError::Sql {
            server: login.server.clone(),
            statement: shown(),
            source,
        }),
        Err(_) => Err(SandboxError::SqlTimeout {
            server: login.server.clone(),
            statement: shown(),
            limit: login.limit,
        }),
    }
}
