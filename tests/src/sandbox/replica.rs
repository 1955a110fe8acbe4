//! What a replica says of itself, and bringing it to a wanted state.

use std::time::Duration;

use super::client::Record;
use super::error::SandboxError;
use super::server::Server;
use super::wait::{self, Look};

/// How long a replica may take to reach a state that it is on the way to.
const LIMIT: Duration = Duration::from_secs(90);

/// A place in a binary log or relay log, as a server names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// File name.
    pub file: String,
    /// Offset in bytes.
    pub offset: u64,
}

impl LogPlace {
    /// The place at `offset` of `file`.
    pub fn new(file: &str, offset: u64) -> Self {
        Self {
            file: file.to_owned(),
            offset,
        }
    }
}

impl std::fmt::Display for LogPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// One row of SHOW SLAVE STATUS, its columns under the names of 5.6 whatever the server calls them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    server: String,
    row: Record,
}

impl ReplicaStatus {
    /// A column, which must be there.
    pub fn text(&self, column: &str) -> Result<&str, SandboxError> {
        self.row.get(column).ok_or_else(|| SandboxError::Answer {
            server: self.server.clone(),
            statement: "SHOW SLAVE STATUS".to_owned(),
            wanted: column.to_owned(),
        })
    }

    fn place(&self, file: &str, offset: &str) -> Result<LogPlace, SandboxError> {
        let number = self
            .text(offset)?
            .parse()
            .map_err(|_| SandboxError::Answer {
                server: self.server.clone(),
                statement: "SHOW SLAVE STATUS".to_owned(),
                wanted: format!("number in {offset}"),
            })?;
        Ok(LogPlace {
            file: self.text(file)?.to_owned(),
            offset: number,
        })
    }

    /// How far it has received, in the source's binary log.
    pub fn read(&self) -> Result<LogPlace, SandboxError> {
        self.place("Master_Log_File", "Read_Master_Log_Pos")
    }

    /// How far it has executed, in the source's binary log.
    pub fn executed(&self) -> Result<LogPlace, SandboxError> {
        self.place("Relay_Master_Log_File", "Exec_Master_Log_Pos")
    }

    /// How far it has executed, in its relay log.
    pub fn relay(&self) -> Result<LogPlace, SandboxError> {
        self.place("Relay_Log_File", "Relay_Log_Pos")
    }

    /// `Yes`, `No` or `Connecting`.
    pub fn io_running(&self) -> Result<&str, SandboxError> {
        self.text("Slave_IO_Running")
    }

    /// Whether the applier runs.
    pub fn sql_running(&self) -> Result<bool, SandboxError> {
        Ok(self.text("Slave_SQL_Running")? == "Yes")
    }

    /// The source it follows, as `HOST:PORT`.
    pub fn source(&self) -> Result<String, SandboxError> {
        Ok(format!(
            "{}:{}",
            self.text("Master_Host")?,
            self.text("Master_Port")?
        ))
    }

    /// Number and text of the applier's last error; number 0 if there is none.
    pub fn sql_error(&self) -> Result<(u32, &str), SandboxError> {
        Ok((
            self.text("Last_SQL_Errno")?.parse().unwrap_or(0),
            self.text("Last_SQL_Error")?,
        ))
    }

    /// All columns.
    pub fn row(&self) -> &Record {
        &self.row
    }
}

/// The replica's status; `None` if the server is no replica.
pub async fn status(server: &Server) -> Result<Option<ReplicaStatus>, SandboxError> {
    let kind = server.kind();
    let row = server.row(&kind.statement("SHOW SLAVE STATUS")).await?;
    Ok(row.map(|row| ReplicaStatus {
        server: server.name().to_owned(),
        row: row.renamed(|column| kind.status_column(column)),
    }))
}

/// The status of a server that must be a replica.
pub async fn must_status(server: &Server) -> Result<ReplicaStatus, SandboxError> {
    status(server).await?.ok_or_else(|| SandboxError::Answer {
        server: server.name().to_owned(),
        statement: "SHOW SLAVE STATUS".to_owned(),
        wanted: "row".to_owned(),
    })
}

/// Waits until the status fulfils a condition; returns that status.
pub async fn wait_until(
    server: &Server,
    what: &str,
    holds: impl Fn(&ReplicaStatus) -> Result<bool, SandboxError>,
) -> Result<ReplicaStatus, SandboxError> {
    let what = format!("{}: {what}", server.name());
    wait::until(&what, LIMIT, || async {
        let status = must_status(server).await?;
        if holds(&status)? {
            return Ok(Look::Done(status));
        }
        Ok(Look::NotYet(format!(
            "read {}, executed {}, I/O {}, SQL {}, errors {:?} {:?}",
            status.read()?,
            status.executed()?,
            status.io_running()?,
            status.text("Slave_SQL_Running")?,
            status.text("Last_IO_Error")?,
            status.text("Last_SQL_Error")?,
        )))
    })
    .await
}

/// Waits until the replica has received exactly up to `place`.
pub async fn wait_read(server: &Server, place: &LogPlace) -> Result<ReplicaStatus, SandboxError> {
    wait_until(server, &format!("received up to {place}"), |status| {
        Ok(status.read()? == *place)
    })
    .await
}

/// Waits until the replica has executed exactly up to `place`.
pub async fn wait_executed(
    server: &Server,
    place: &LogPlace,
) -> Result<ReplicaStatus, SandboxError> {
    wait_until(server, &format!("executed up to {place}"), |status| {
        // Until it has connected, a replica shows the position that it was told.
        Ok(status.executed()? == *place && status.read()? == *place)
    })
    .await
}

/// Waits until the replica has executed all that `source` has written by then, however long clients go on.
pub async fn wait_level(server: &Server, source: &Server) -> Result<(), SandboxError> {
    let what = format!(
        "{} to have executed what {} has",
        server.name(),
        source.name()
    );
    wait::until(&what, LIMIT, || async {
        let end = binlog_end(source).await?;
        let status = must_status(server).await?;
        let (read, executed) = (status.read()?, status.executed()?);
        Ok(if executed == end && read == end {
            Look::Done(())
        } else {
            Look::NotYet(format!("{end}; read {read}, executed {executed}"))
        })
    })
    .await
}

/// Begins a new binary log.
pub async fn rotate(server: &Server) -> Result<(), SandboxError> {
    server.exec("FLUSH BINARY LOGS").await?;
    rotated(server).await
}

/// Waits after a rotation until the end of the log stays where it is: MariaDB writes a new log's own Binlog_checkpoint from a
/// thread in the background.
pub async fn rotated(server: &Server) -> Result<(), SandboxError> {
    if !server.kind().is_mariadb() {
        return Ok(());
    }
    let file = binlog_end(server).await?.file;
    wait::until("the new log's own checkpoint", LIMIT, || async {
        let events = server
            .rows(&format!("SHOW BINLOG EVENTS IN '{file}'"))
            .await?;
        let there = events.iter().any(|event| {
            event.get("Event_type") == Some("Binlog_checkpoint") && event.get("Info") == Some(&file)
        });
        Ok(if there {
            Look::Done(())
        } else {
            Look::NotYet(format!("{} events", events.len()))
        })
    })
    .await
}

/// The end of a server's binary log.
pub async fn binlog_end(server: &Server) -> Result<LogPlace, SandboxError> {
    let lacking = |wanted: &str| SandboxError::Answer {
        server: server.name().to_owned(),
        statement: "SHOW MASTER STATUS".to_owned(),
        wanted: wanted.to_owned(),
    };
    let row = server
        .row(&server.kind().statement("SHOW MASTER STATUS"))
        .await?
        .ok_or_else(|| lacking("row: no binary log"))?;
    let file = row.get("File").ok_or_else(|| lacking("File"))?.to_owned();
    let offset = row.get("Position").and_then(|text| text.parse().ok());
    Ok(LogPlace {
        file,
        offset: offset.ok_or_else(|| lacking("Position as a number"))?,
    })
}
