//! Replication status of one channel, in our words.

use std::time::Duration;

use binlog_core::{BinlogPosition, RelayPosition};

use super::dialect::Dialect;
use super::row::Row;
use super::{Session, SqlError};

/// State of the receiver (I/O thread).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// Connected.
    Running,
    /// Trying to connect.
    Connecting,
    /// Stopped.
    Stopped,
}

/// An error a replication thread stopped with or reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadError {
    /// Number.
    pub errno: u32,
    /// Text.
    pub text: String,
}

/// MariaDB's `Using_Gtid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsingGtid {
    /// By file and position.
    No,
    /// `MASTER_USE_GTID=slave_pos`.
    SlavePos,
    /// `MASTER_USE_GTID=current_pos`.
    CurrentPos,
}

/// SHOW REPLICA STATUS of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaStatus {
    /// Channel name; empty for the default channel.
    pub channel: String,
    /// Number of channels of this server.
    pub channels: u32,
    /// Source host.
    pub source_host: String,
    /// Source port.
    pub source_port: u16,
    /// Replication account.
    pub source_user: String,
    /// Receiver.
    pub receiver: Receiver,
    /// The applier runs.
    pub applier_running: bool,
    /// What the applier says it does; empty if it does not run.
    pub applier_state: String,
    /// End of what was received; `None` before anything was.
    pub read: Option<BinlogPosition>,
    /// End of what was executed; `None` where the server does not know it.
    pub executed: Option<BinlogPosition>,
    /// Relay log place of the executed end.
    pub relay: Option<RelayPosition>,
    /// Last receiver error.
    pub receiver_error: Option<ThreadError>,
    /// Last applier error.
    pub applier_error: Option<ThreadError>,
    /// Configured delay.
    pub delay: Duration,
    /// MySQL: AUTO_POSITION=1.
    pub auto_position: bool,
    /// MariaDB: `Using_Gtid`.
    pub using_gtid: UsingGtid,
    /// MySQL: `@@gtid_executed`. MariaDB: `@@gtid_slave_pos`. Where the channel follows GTIDs it was read after the positions, so
    /// that it holds every transaction before them.
    pub gtid_executed: String,
    /// MySQL: Retrieved_Gtid_Set. MariaDB: Gtid_IO_Pos.
    pub gtid_received: String,
    /// server_id of the source; 0 before the first connection.
    pub source_server_id: u32,
    /// server_uuid of the source; empty for MariaDB.
    pub source_uuid: String,
    /// Seconds behind; `None` when the server says NULL.
    pub seconds_behind: Option<u64>,
    /// Replication filters, `option=value`, sorted; empty ones left out.
    pub filters: Vec<String>,
    /// Seconds between reconnects.
    pub connect_retry: u32,
    /// Number of reconnects (MySQL).
    pub retry_count: Option<u64>,
    /// Interface to bind to (MySQL).
    pub bind: String,
    /// Server ids whose events are ignored.
    pub ignore_server_ids: Vec<u32>,
    /// TLS settings of the channel.
    pub tls: ChannelTls,
}

/// TLS settings of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChannelTls {
    /// TLS is asked for.
    pub enabled: bool,
    /// The source's certificate is verified.
    pub verify: bool,
    /// CA file.
    pub ca: String,
    /// CA directory.
    pub capath: String,
    /// Certificate.
    pub cert: String,
    /// Cipher list.
    pub cipher: String,
    /// Private key.
    pub key: String,
    /// CRL file.
    pub crl: String,
    /// CRL directory.
    pub crlpath: String,
    /// Versions of TLS that are permitted (MySQL 5.7+).
    #[serde(default)]
    pub version: String,
    /// Without TLS the source is asked for the key that a full `caching_sha2_password` login needs (MySQL 8.0+).
    #[serde(default)]
    pub get_public_key: bool,
    /// File with that key (MySQL 8.0+).
    #[serde(default)]
    pub public_key_path: String,
}

impl ReplicaStatus {
    /// True if the channel follows GTIDs rather than positions.
    pub fn follows_gtid(&self) -> bool {
        self.auto_position || self.using_gtid != UsingGtid::No
    }

    /// True if both threads stand still.
    pub fn is_stopped(&self) -> bool {
        self.receiver == Receiver::Stopped && !self.applier_running
    }
}

/// Reads the status of the channel of `dialect`, or of the only channel if `dialect` names the default one and the
/// server has just one. `None` if the server is no replica.
pub async fn read(
    session: &mut Session,
    dialect: &Dialect,
    limit: Duration,
) -> Result<Option<ReplicaStatus>, SqlError> {
    let rows = session
        .query_rows(dialect.show_replica_status(), limit)
        .await?;
    let Some(row) = choose(&rows, dialect.channel()) else {
        return Ok(None);
    };
    let channels = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let mut status = parse(row, dialect, channels)?;
    if status.channel.is_empty() && status.source_host.is_empty() && status.source_user.is_empty() {
        // 5.6 shows a row without a host after RESET SLAVE (not ALL): no channel that could be started.
        return Ok(None);
    }
    if status.auto_position {
        // The row's own column was read before the positions beside it, and may lack what they count (seen in the source of
        // 8.0: show_slave_status copies the set first).
        status.gtid_executed = session
            .query_value("SELECT @@GLOBAL.gtid_executed", limit)
            .await?
            .unwrap_or_default()
            .replace('\n', "");
    }
    if dialect.version().is_mariadb() {
        // The status column of this name also counts what was written on the replica itself (seen on 10.11), the variable
        // only what was replicated.
        status.gtid_executed = session
            .query_value("SELECT @@GLOBAL.gtid_slave_pos", limit)
            .await?
            .unwrap_or_default();
    }
    Ok(Some(status))
}

fn choose<'a>(rows: &'a [Row], channel: &str) -> Option<&'a Row> {
    let named = rows.iter().find(|row| channel_of(row) == channel);
    match rows {
        [only] if channel.is_empty() => named.or(Some(only)),
        _ => named,
    }
}

fn channel_of(row: &Row) -> &str {
    match row.text_or_empty("Connection_name") {
        "" => row.text_or_empty("Channel_Name"),
        name => name,
    }
}

fn parse(row: &Row, dialect: &Dialect, channels: u32) -> Result<ReplicaStatus, SqlError> {
    let c = |old: &str| dialect.column(old);
    let receiver_column = c("Slave_IO_Running");
    let receiver = match row.text(&receiver_column)? {
        "Yes" => Receiver::Running,
        // MariaDB says Preparing before the first attempt.
        "Connecting" | "Preparing" => Receiver::Connecting,
        "No" => Receiver::Stopped,
        other => return Err(row.unexpected(&receiver_column, "Yes, Connecting or No", other)),
    };
    let error = |number: &str, text: &str| -> Result<Option<ThreadError>, SqlError> {
        let errno: u32 = row.number_if_any(number)?.unwrap_or(0);
        Ok((errno != 0).then(|| ThreadError {
            errno,
            text: row.text_or_empty(text).to_owned(),
        }))
    };
    // After a crash inside CHANGE MASTER 5.6.24 shows uninitialised memory here: no name, no position.
    let relay = position(row, "Relay_Log_File", "Relay_Log_Pos")?
        .and_then(|(file, offset)| Some(RelayPosition::new(file.parse().ok()?, offset)));
    let tls_text = |old: &str| row.text_or_empty(&c(old)).to_owned();
    Ok(ReplicaStatus {
        channel: channel_of(row).to_owned(),
        channels,
        source_host: row.text_or_empty(&c("Master_Host")).to_owned(),
        source_port: row.number_if_any(&c("Master_Port"))?.unwrap_or(0),
        source_user: row.text_or_empty(&c("Master_User")).to_owned(),
        receiver,
        applier_running: row.flag(&c("Slave_SQL_Running"))?,
        applier_state: row.text_or_empty(&c("Slave_SQL_Running_State")).to_owned(),
        read: binlog_position(row, &c("Master_Log_File"), &c("Read_Master_Log_Pos"))?,
        executed: binlog_position(row, &c("Relay_Master_Log_File"), &c("Exec_Master_Log_Pos"))?,
        relay,
        receiver_error: error("Last_IO_Errno", "Last_IO_Error")?,
        applier_error: error("Last_SQL_Errno", "Last_SQL_Error")?,
        delay: Duration::from_secs(row.number_if_any("SQL_Delay")?.unwrap_or(0)),
        auto_position: row.number_if_any("Auto_Position")?.unwrap_or(0_u8) == 1,
        using_gtid: match row.text_or_empty("Using_Gtid") {
            "Slave_Pos" => UsingGtid::SlavePos,
            "Current_Pos" => UsingGtid::CurrentPos,
            _ => UsingGtid::No,
        },
        gtid_executed: row.text_or_empty("Executed_Gtid_Set").replace('\n', ""),
        gtid_received: if dialect.version().is_mariadb() {
            row.text_or_empty("Gtid_IO_Pos").to_owned()
        } else {
            row.text_or_empty("Retrieved_Gtid_Set").replace('\n', "")
        },
        source_server_id: row.number_if_any(&c("Master_Server_Id"))?.unwrap_or(0),
        source_uuid: row.text_or_empty(&c("Master_UUID")).to_owned(),
        seconds_behind: row.number_if_any(&c("Seconds_Behind_Master"))?,
        filters: filters(row),
        connect_retry: row.number_if_any("Connect_Retry")?.unwrap_or(60),
        retry_count: row.number_if_any(&c("Master_Retry_Count"))?,
        bind: row.text_or_empty(&c("Master_Bind")).to_owned(),
        ignore_server_ids: ids(row)?,
        tls: ChannelTls {
            enabled: row.text_or_empty(&c("Master_SSL_Allowed")) != "No",
            verify: row.text_or_empty(&c("Master_SSL_Verify_Server_Cert")) == "Yes",
            ca: tls_text("Master_SSL_CA_File"),
            capath: tls_text("Master_SSL_CA_Path"),
            cert: tls_text("Master_SSL_Cert"),
            cipher: tls_text("Master_SSL_Cipher"),
            key: tls_text("Master_SSL_Key"),
            crl: tls_text("Master_SSL_Crl"),
            crlpath: tls_text("Master_SSL_Crlpath"),
            version: tls_text("Master_TLS_Version"),
            get_public_key: row
                .number_if_any(&c("Get_master_public_key"))?
                .unwrap_or(0_u8)
                == 1,
            public_key_path: tls_text("Master_public_key_path"),
        },
    })
}

fn ids(row: &Row) -> Result<Vec<u32>, SqlError> {
    let column = "Replicate_Ignore_Server_Ids";
    let text = row.text_or_empty(column);
    text.split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(|id| {
            id.parse()
                .map_err(|_| row.unexpected(column, "numbers", text))
        })
        .collect()
}

/// Filter columns of the status; the order of the list is the order of the output.
const FILTERS: [&str; 7] = [
    "Replicate_Do_DB",
    "Replicate_Do_Table",
    "Replicate_Ignore_DB",
    "Replicate_Ignore_Table",
    "Replicate_Rewrite_DB",
    "Replicate_Wild_Do_Table",
    "Replicate_Wild_Ignore_Table",
];

fn filters(row: &Row) -> Vec<String> {
    FILTERS
        .iter()
        .filter_map(|column| filter_text(&column.to_ascii_lowercase(), row.text_or_empty(column)))
        .collect()
}

/// `name=a,b` with the values sorted, so that the same filters always read the same; `None` if there are none.
pub(super) fn filter_text(name: &str, values: &str) -> Option<String> {
    let mut values: Vec<&str> = values
        .split(',')
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect();
    values.sort_unstable();
    values.dedup();
    (!values.is_empty()).then(|| format!("{name}={}", values.join(",")))
}

fn position<'a>(
    row: &'a Row,
    file: &str,
    offset: &str,
) -> Result<Option<(&'a str, u64)>, SqlError> {
    match row.text_or_empty(file) {
        "" => Ok(None),
        name => Ok(Some((name, row.number(offset)?))),
    }
}

/// A position in the primary's binary log; `None` while the file has no name.
pub(super) fn binlog_position(
    row: &Row,
    file: &str,
    offset: &str,
) -> Result<Option<BinlogPosition>, SqlError> {
    position(row, file, offset)?
        .map(|(name, offset)| {
            name.parse()
                .map(|name| BinlogPosition::new(name, offset))
                .map_err(|_| row.unexpected(file, "BASE.NUMBER", name))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysqld::ServerVersion;

    fn dialect(version: &str) -> Dialect {
        Dialect::new(ServerVersion::parse(version).unwrap())
    }

    fn row_of_5_6<'a>(changes: &[(&'a str, Option<&'a str>)]) -> Row {
        let mut cells = vec![
            ("Slave_IO_State", Some("")),
            ("Master_Host", Some("127.0.0.11")),
            ("Master_User", Some("repl")),
            ("Master_Port", Some("3306")),
            ("Connect_Retry", Some("60")),
            ("Master_Log_File", Some("mysql-bin.000001")),
            ("Read_Master_Log_Pos", Some("880")),
            ("Relay_Log_File", Some("relay-bin.000002")),
            ("Relay_Log_Pos", Some("615")),
            ("Relay_Master_Log_File", Some("mysql-bin.000001")),
            ("Slave_IO_Running", Some("No")),
            ("Slave_SQL_Running", Some("Yes")),
            ("Replicate_Do_DB", Some("")),
            ("Replicate_Ignore_DB", Some("z,a")),
            ("Exec_Master_Log_Pos", Some("452")),
            ("Master_SSL_Allowed", Some("No")),
            ("Seconds_Behind_Master", None),
            ("Last_IO_Errno", Some("2003")),
            ("Last_IO_Error", Some("error connecting")),
            ("Last_SQL_Errno", Some("0")),
            ("Last_SQL_Error", Some("")),
            ("Replicate_Ignore_Server_Ids", Some("7, 8")),
            ("Master_Server_Id", Some("1")),
            ("Master_UUID", Some("u")),
            ("SQL_Delay", Some("5")),
            (
                "Slave_SQL_Running_State",
                Some("Slave has read all relay log"),
            ),
            ("Master_Retry_Count", Some("86400")),
            ("Executed_Gtid_Set", Some("a:1-3,\nb:1")),
            ("Retrieved_Gtid_Set", Some("a:2-4,\nb:1")),
            ("Auto_Position", Some("0")),
        ];
        for (name, value) in changes {
            match cells.iter_mut().find(|(known, _)| known == name) {
                Some(cell) => cell.1 = *value,
                None => cells.push((name, *value)),
            }
        }
        Row::of(&cells)
    }

    #[test]
    fn a_status_of_5_6_is_read_in_our_words() {
        let status = parse(&row_of_5_6(&[]), &dialect("5.6.24"), 1).unwrap();
        assert_eq!(status.read.unwrap().to_string(), "mysql-bin.000001:880");
        assert_eq!(status.executed.unwrap().to_string(), "mysql-bin.000001:452");
        assert_eq!(status.relay.unwrap().to_string(), "relay-bin.000002:615");
        assert_eq!(status.receiver, Receiver::Stopped);
        assert!(status.applier_running);
        assert_eq!(status.receiver_error.unwrap().errno, 2003);
        assert_eq!(status.applier_error, None);
        assert_eq!(status.delay, Duration::from_secs(5));
        assert_eq!(status.gtid_executed, "a:1-3,b:1");
        assert_eq!(status.gtid_received, "a:2-4,b:1");
        assert_eq!(status.ignore_server_ids, [7, 8]);
        assert_eq!(status.filters, ["replicate_ignore_db=a,z"]);
        assert_eq!(status.seconds_behind, None);
        assert_eq!(status.retry_count, Some(86_400));
    }

    #[test]
    fn connecting_is_neither_yes_nor_no() {
        for (text, expected) in [
            ("Connecting", Receiver::Connecting),
            ("Yes", Receiver::Running),
        ] {
            let row = row_of_5_6(&[("Slave_IO_Running", Some(text))]);
            assert_eq!(
                parse(&row, &dialect("5.6.24"), 1).unwrap().receiver,
                expected
            );
        }
        let row = row_of_5_6(&[("Slave_IO_Running", Some("Perhaps"))]);
        assert!(parse(&row, &dialect("5.6.24"), 1).is_err());
    }

    #[test]
    fn no_file_name_is_no_position() {
        let row = row_of_5_6(&[
            ("Relay_Master_Log_File", Some("")),
            ("Exec_Master_Log_Pos", Some("0")),
        ]);
        assert_eq!(parse(&row, &dialect("5.6.24"), 1).unwrap().executed, None);
    }

    #[test]
    fn a_relay_log_name_that_is_none_is_no_position() {
        let row = row_of_5_6(&[("Relay_Log_File", Some("\u{fffd}!\u{1}"))]);
        assert_eq!(parse(&row, &dialect("5.6.24"), 1).unwrap().relay, None);
    }

    #[test]
    fn mariadb_modes_are_told_apart() {
        for (text, expected) in [
            ("No", UsingGtid::No),
            ("Slave_Pos", UsingGtid::SlavePos),
            ("Current_Pos", UsingGtid::CurrentPos),
        ] {
            let row = row_of_5_6(&[("Using_Gtid", Some(text))]);
            let status = parse(&row, &dialect("10.11.19-MariaDB"), 1).unwrap();
            assert_eq!(status.using_gtid, expected);
            assert_eq!(status.follows_gtid(), expected != UsingGtid::No);
        }
    }

    #[test]
    fn the_default_channel_or_the_only_one_is_chosen() {
        let named = |name| Row::of(&[("Channel_Name", Some(name))]);
        let two = [named("a"), named("")];
        assert_eq!(channel_of(choose(&two, "").unwrap()), "");
        assert_eq!(channel_of(choose(&two, "a").unwrap()), "a");
        assert_eq!(channel_of(choose(&[named("x")], "").unwrap()), "x");
        assert!(choose(&[named("x"), named("y")], "").is_none());
        assert!(choose(&[], "").is_none());
    }
}
