//! What a statement is called on which server.
//!
//! One place knows the vocabularies: the old one (MASTER, SLAVE) of MySQL up to 8.0.21 and of MariaDB, and the new
//! one (SOURCE, REPLICA), which MySQL has beside the old from 8.0.22/23 on and alone from 8.4 on. The two differ word
//! by word, in statements, options and column names alike, so statements are written in the old one and translated.
//!
//! | topic | MySQL ≤ 8.0.21 | 8.0.22 | 8.0.23-8.1 | 8.2, 8.3 | 8.4+ | MariaDB |
//! |---|---|---|---|---|---|---|
//! | status, START, STOP, RESET | SLAVE | REPLICA | REPLICA | REPLICA | REPLICA | SLAVE |
//! | CHANGE | MASTER TO | MASTER TO | REPLICATION SOURCE TO | ← | ← | MASTER TO |
//! | own position | MASTER STATUS | ← | ← | BINARY LOG STATUS | ← | MASTER STATUS |
//! | channels | FOR CHANNEL from 5.7 | ← | ← | ← | ← | `@@default_master_connection` |
//! | variables | `slave_*` | ← | `replica_*` from 8.0.26 | ← | ← | `slave_*` |
//!
//! Variables are never named by version: what `SHOW VARIABLES` did not show is not set.

use binlog_core::BinlogPosition;

use super::ServerVersion;
use super::session::quote;

/// Words of one server.
#[derive(Debug, Clone)]
pub struct Dialect {
    version: ServerVersion,
    channel: String,
}

/// One option of CHANGE MASTER / CHANGE REPLICATION SOURCE. Names are the old vocabulary without `MASTER_`.
#[derive(Clone, PartialEq)]
pub enum ChangeOption {
    /// `MASTER_HOST`.
    Host(String),
    /// `MASTER_PORT`.
    Port(u16),
    /// `MASTER_USER`.
    User(String),
    /// `MASTER_PASSWORD`.
    Password(String),
    /// `MASTER_LOG_FILE`.
    LogFile(String),
    /// `MASTER_LOG_POS`.
    LogPos(u64),
    /// `MASTER_CONNECT_RETRY`, seconds.
    ConnectRetry(u32),
    /// `MASTER_RETRY_COUNT` (MySQL).
    RetryCount(u64),
    /// `MASTER_HEARTBEAT_PERIOD`, seconds, as the server prints it.
    HeartbeatPeriod(String),
    /// `MASTER_DELAY`, seconds.
    Delay(u32),
    /// `MASTER_BIND` (MySQL).
    Bind(String),
    /// `MASTER_COMPRESSION_ALGORITHMS` (MySQL 8.0.18+).
    Compression(String),
    /// `MASTER_ZSTD_COMPRESSION_LEVEL` (MySQL 8.0.18+).
    ZstdLevel(u32),
    /// `MASTER_SSL`.
    Ssl(bool),
    /// `MASTER_SSL_VERIFY_SERVER_CERT`.
    SslVerify(bool),
    /// `MASTER_TLS_VERSION` (MySQL 5.7+).
    TlsVersion(String),
    /// `GET_MASTER_PUBLIC_KEY` (MySQL 8.0+).
    GetPublicKey(bool),
    /// `MASTER_PUBLIC_KEY_PATH` (MySQL 8.0+).
    PublicKeyPath(String),
    /// `MASTER_SSL_CA`, `_CAPATH`, `_CERT`, `_CIPHER`, `_KEY`, `_CRL`, `_CRLPATH`.
    SslText(&'static str, String),
    /// `IGNORE_SERVER_IDS`.
    IgnoreServerIds(Vec<u32>),
    /// `MASTER_AUTO_POSITION` (MySQL 5.6+).
    AutoPosition(bool),
    /// `MASTER_USE_GTID` (MariaDB): `no`, `slave_pos`, `current_pos`.
    UseGtid(&'static str),
    /// `RELAY_LOG_FILE`.
    RelayLogFile(String),
    /// `RELAY_LOG_POS`.
    RelayLogPos(u64),
}

impl std::fmt::Debug for ChangeOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password(_) => f.write_str("MASTER_PASSWORD=(not shown)"),
            other => f.write_str(&other.render()),
        }
    }
}

impl Dialect {
    /// Words of a server of this version for its default channel.
    pub fn new(version: ServerVersion) -> Self {
        Self::for_channel(version, String::new())
    }

    /// Words for a named channel.
    pub fn for_channel(version: ServerVersion, channel: String) -> Self {
        Self { version, channel }
    }

    /// The server.
    pub fn version(&self) -> &ServerVersion {
        &self.version
    }

    /// Name of the channel; empty for the default one.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// True where REPLICA replaced SLAVE.
    fn says_replica(&self) -> bool {
        self.version.is_mysql_from(8, 0, 22)
    }

    /// True where SOURCE replaced MASTER in CHANGE.
    fn says_source(&self) -> bool {
        self.version.is_mysql_from(8, 0, 23)
    }

    /// Status of all channels, one row each.
    pub fn show_replica_status(&self) -> &'static str {
        if self.version.is_mariadb() {
            "SHOW ALL SLAVES STATUS"
        } else if self.says_replica() {
            "SHOW REPLICA STATUS"
        } else {
            "SHOW SLAVE STATUS"
        }
    }

    /// Name of a column of that status, given in the old vocabulary.
    pub fn column(&self, old: &str) -> String {
        if self.says_replica() {
            // `Get_master_public_key` alone is written in small letters, and became `Get_Source_public_key`.
            old.replace("Get_master", "Get_Master")
                .replace("Master", "Source")
                .replace("Slave", "Replica")
        } else {
            old.to_owned()
        }
    }

    /// Where its own binary log ends.
    pub fn show_own_position(&self) -> &'static str {
        if self.version.is_mysql_from(8, 2, 0) {
            "SHOW BINARY LOG STATUS"
        } else {
            "SHOW MASTER STATUS"
        }
    }

    /// Asks for the heartbeat period of the channel: one row with a column `Value`, seconds, or none. The status variable
    /// went in MySQL 5.7, where a channel has a period of its own.
    pub fn heartbeat_period(&self) -> String {
        if self.version.is_mysql_from(5, 7, 0) {
            format!(
                "SELECT HEARTBEAT_INTERVAL AS Value FROM performance_schema.replication_connection_configuration \
                 WHERE CHANNEL_NAME={}",
                quote(&self.channel)
            )
        } else {
            "SHOW GLOBAL STATUS LIKE 'Slave_heartbeat_period'".to_owned()
        }
    }

    /// Asks how the connection of the channel is compressed: one row with columns `Algorithms`, names separated by commas, and
    /// `Level`, of zstd. `None` where a channel has no such setting (before MySQL 8.0.18).
    pub fn compression(&self) -> Option<String> {
        self.version.is_mysql_from(8, 0, 18).then(|| {
            format!(
                "SELECT COMPRESSION_ALGORITHM AS Algorithms, ZSTD_COMPRESSION_LEVEL AS Level \
                 FROM performance_schema.replication_connection_configuration WHERE CHANNEL_NAME={}",
                quote(&self.channel)
            )
        })
    }

    /// What selects the channel for the session, where statements cannot name it.
    pub fn select_channel(&self) -> Option<String> {
        (self.version.is_mariadb() && !self.channel.is_empty()).then(|| {
            format!(
                "SET SESSION default_master_connection={}",
                quote(&self.channel)
            )
        })
    }

    /// Stops the receiver.
    pub fn stop_receiver(&self) -> String {
        self.replica_verb("STOP", " IO_THREAD")
    }

    /// Starts the receiver.
    pub fn start_receiver(&self) -> String {
        self.replica_verb("START", " IO_THREAD")
    }

    /// Stops the applier.
    pub fn stop_applier(&self) -> String {
        self.replica_verb("STOP", " SQL_THREAD")
    }

    /// Starts the applier.
    pub fn start_applier(&self) -> String {
        self.replica_verb("START", " SQL_THREAD")
    }

    /// Starts the applier up to a place in its source's log, where it stops by itself (MariaDB).
    pub fn start_applier_until(&self, end: &BinlogPosition) -> String {
        let until = format!(
            " SQL_THREAD UNTIL MASTER_LOG_FILE={}, MASTER_LOG_POS={}",
            quote(end.file.as_str()),
            end.offset
        );
        self.replica_verb("START", &until)
    }

    /// Starts both threads.
    pub fn start_both(&self) -> String {
        self.replica_verb("START", "")
    }

    /// Stops both threads.
    pub fn stop_both(&self) -> String {
        self.replica_verb("STOP", "")
    }

    /// Forgets positions and relay logs, not the host and account.
    pub fn reset(&self) -> String {
        self.replica_verb("RESET", "")
    }

    /// Forgets the channel: relay logs, positions, host and account.
    pub fn reset_all(&self) -> String {
        self.replica_verb("RESET", " ALL")
    }

    /// CHANGE with these options.
    pub fn change(&self, options: &[ChangeOption]) -> String {
        let options = options
            .iter()
            .map(|option| self.translate_option(&option.render()))
            .collect::<Vec<_>>()
            .join(", ");
        let verb = if self.says_source() {
            "CHANGE REPLICATION SOURCE TO"
        } else {
            "CHANGE MASTER TO"
        };
        format!("{verb} {options}{}", self.channel_clause())
    }

    /// The applier's coordinating thread, by its instrumented name; `None` for MariaDB, whose process list names it.
    pub fn applier_thread_name(&self) -> Option<&'static str> {
        if self.version.is_mariadb() {
            None
        } else if self.version.is_mysql_from(8, 0, 26) {
            Some("thread/sql/replica_sql")
        } else {
            Some("thread/sql/slave_sql")
        }
    }

    fn replica_verb(&self, verb: &str, rest: &str) -> String {
        let noun = if self.says_replica() {
            "REPLICA"
        } else {
            "SLAVE"
        };
        format!("{verb} {noun}{rest}{}", self.channel_clause())
    }

    fn channel_clause(&self) -> String {
        if self.channel.is_empty() || !self.version.is_mysql_from(5, 7, 0) {
            String::new()
        } else {
            format!(" FOR CHANNEL {}", quote(&self.channel))
        }
    }

    /// Only the option's name may change, never its value.
    fn translate_option(&self, rendered: &str) -> String {
        if !self.says_source() {
            return rendered.to_owned();
        }
        for (old, new) in [("MASTER_", "SOURCE_"), ("GET_MASTER_", "GET_SOURCE_")] {
            if let Some(rest) = rendered.strip_prefix(old) {
                return format!("{new}{rest}");
            }
        }
        rendered.to_owned()
    }
}

impl ChangeOption {
    /// `NAME=value` in the old vocabulary.
    fn render(&self) -> String {
        let flag = |on: &bool| u8::from(*on);
        match self {
            Self::Host(text) => format!("MASTER_HOST={}", quote(text)),
            Self::Port(port) => format!("MASTER_PORT={port}"),
            Self::User(text) => format!("MASTER_USER={}", quote(text)),
            Self::Password(text) => format!("MASTER_PASSWORD={}", quote(text)),
            Self::LogFile(text) => format!("MASTER_LOG_FILE={}", quote(text)),
            Self::LogPos(offset) => format!("MASTER_LOG_POS={offset}"),
            Self::ConnectRetry(seconds) => format!("MASTER_CONNECT_RETRY={seconds}"),
            Self::RetryCount(count) => format!("MASTER_RETRY_COUNT={count}"),
            Self::HeartbeatPeriod(text) => format!("MASTER_HEARTBEAT_PERIOD={text}"),
            Self::Delay(seconds) => format!("MASTER_DELAY={seconds}"),
            Self::Bind(text) => format!("MASTER_BIND={}", quote(text)),
            Self::Compression(names) => {
                format!("MASTER_COMPRESSION_ALGORITHMS={}", quote(names))
            }
            Self::ZstdLevel(level) => format!("MASTER_ZSTD_COMPRESSION_LEVEL={level}"),
            Self::Ssl(on) => format!("MASTER_SSL={}", flag(on)),
            Self::SslVerify(on) => format!("MASTER_SSL_VERIFY_SERVER_CERT={}", flag(on)),
            Self::TlsVersion(text) => format!("MASTER_TLS_VERSION={}", quote(text)),
            Self::GetPublicKey(on) => format!("GET_MASTER_PUBLIC_KEY={}", flag(on)),
            Self::PublicKeyPath(text) => format!("MASTER_PUBLIC_KEY_PATH={}", quote(text)),
            Self::SslText(name, text) => format!("MASTER_SSL_{name}={}", quote(text)),
            Self::IgnoreServerIds(ids) => {
                let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
                format!("IGNORE_SERVER_IDS=({})", ids.join(","))
            }
            Self::AutoPosition(on) => format!("MASTER_AUTO_POSITION={}", flag(on)),
            Self::UseGtid(mode) => format!("MASTER_USE_GTID={mode}"),
            Self::RelayLogFile(text) => format!("RELAY_LOG_FILE={}", quote(text)),
            Self::RelayLogPos(offset) => format!("RELAY_LOG_POS={offset}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(version: &str, channel: &str) -> Dialect {
        Dialect::for_channel(ServerVersion::parse(version).unwrap(), channel.to_owned())
    }

    #[test]
    fn each_version_gets_its_own_words() {
        let change = [ChangeOption::Host("h".to_owned()), ChangeOption::LogPos(4)];
        let table = [
            (
                "5.6.24",
                "SHOW SLAVE STATUS",
                "CHANGE MASTER TO MASTER_HOST='h', MASTER_LOG_POS=4",
                "SHOW MASTER STATUS",
                "STOP SLAVE IO_THREAD",
                "thread/sql/slave_sql",
            ),
            (
                "5.7.22",
                "SHOW SLAVE STATUS",
                "CHANGE MASTER TO MASTER_HOST='h', MASTER_LOG_POS=4",
                "SHOW MASTER STATUS",
                "STOP SLAVE IO_THREAD",
                "thread/sql/slave_sql",
            ),
            (
                "8.0.22",
                "SHOW REPLICA STATUS",
                "CHANGE MASTER TO MASTER_HOST='h', MASTER_LOG_POS=4",
                "SHOW MASTER STATUS",
                "STOP REPLICA IO_THREAD",
                "thread/sql/slave_sql",
            ),
            (
                "8.0.36",
                "SHOW REPLICA STATUS",
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='h', SOURCE_LOG_POS=4",
                "SHOW MASTER STATUS",
                "STOP REPLICA IO_THREAD",
                "thread/sql/replica_sql",
            ),
            (
                "8.4.3",
                "SHOW REPLICA STATUS",
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='h', SOURCE_LOG_POS=4",
                "SHOW BINARY LOG STATUS",
                "STOP REPLICA IO_THREAD",
                "thread/sql/replica_sql",
            ),
            (
                "9.7.4",
                "SHOW REPLICA STATUS",
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='h', SOURCE_LOG_POS=4",
                "SHOW BINARY LOG STATUS",
                "STOP REPLICA IO_THREAD",
                "thread/sql/replica_sql",
            ),
            (
                "10.11.19-MariaDB",
                "SHOW ALL SLAVES STATUS",
                "CHANGE MASTER TO MASTER_HOST='h', MASTER_LOG_POS=4",
                "SHOW MASTER STATUS",
                "STOP SLAVE IO_THREAD",
                "",
            ),
        ];
        for (version, status, changed, own, stop, thread) in table {
            let d = dialect(version, "");
            assert_eq!(d.show_replica_status(), status, "{version}");
            assert_eq!(d.change(&change), changed, "{version}");
            assert_eq!(d.show_own_position(), own, "{version}");
            assert_eq!(d.stop_receiver(), stop, "{version}");
            assert_eq!(d.applier_thread_name().unwrap_or(""), thread, "{version}");
        }
    }

    #[test]
    fn columns_are_translated_word_by_word() {
        assert_eq!(
            dialect("9.7.4", "").column("Relay_Master_Log_File"),
            "Relay_Source_Log_File"
        );
        assert_eq!(
            dialect("9.7.4", "").column("Slave_SQL_Running_State"),
            "Replica_SQL_Running_State"
        );
        assert_eq!(
            dialect("5.6.24", "").column("Relay_Master_Log_File"),
            "Relay_Master_Log_File"
        );
        assert_eq!(
            dialect("8.0.36", "").column("Get_master_public_key"),
            "Get_Source_public_key"
        );
        assert_eq!(
            dialect("8.0.15", "").column("Get_master_public_key"),
            "Get_master_public_key"
        );
    }

    #[test]
    fn options_of_the_public_key_have_the_words_of_the_server() {
        let options = [
            ChangeOption::GetPublicKey(true),
            ChangeOption::PublicKeyPath("/MASTER_key".to_owned()),
        ];
        assert_eq!(
            dialect("8.0.15", "").change(&options),
            "CHANGE MASTER TO GET_MASTER_PUBLIC_KEY=1, MASTER_PUBLIC_KEY_PATH='/MASTER_key'"
        );
        assert_eq!(
            dialect("9.7.4", "").change(&options),
            "CHANGE REPLICATION SOURCE TO GET_SOURCE_PUBLIC_KEY=1, SOURCE_PUBLIC_KEY_PATH='/MASTER_key'"
        );
    }

    #[test]
    fn the_heartbeat_period_is_asked_for_where_it_is() {
        let status = "SHOW GLOBAL STATUS LIKE 'Slave_heartbeat_period'";
        for old in ["5.6.24", "10.5.29-MariaDB", "11.8.6-MariaDB"] {
            assert_eq!(dialect(old, "").heartbeat_period(), status, "{old}");
        }
        for new in ["5.7.22", "9.7.4"] {
            let asked = dialect(new, "c").heartbeat_period();
            assert!(asked.ends_with("WHERE CHANNEL_NAME='c'"), "{new}: {asked}");
        }
    }

    #[test]
    fn a_channel_is_named_where_the_server_has_a_way_to() {
        assert_eq!(
            dialect("9.7.4", "c'1").reset_all(),
            "RESET REPLICA ALL FOR CHANNEL 'c\\'1'"
        );
        assert_eq!(
            dialect("5.7.22", "c").start_both(),
            "START SLAVE FOR CHANNEL 'c'"
        );
        assert_eq!(dialect("9.7.4", "c").select_channel(), None);
        let mariadb = dialect("10.11.19-MariaDB", "c");
        assert_eq!(mariadb.start_applier(), "START SLAVE SQL_THREAD");
        assert_eq!(
            mariadb.select_channel().unwrap(),
            "SET SESSION default_master_connection='c'"
        );
    }

    #[test]
    fn option_values_are_quoted_and_passwords_not_shown() {
        let options = [
            ChangeOption::User("r'epl".to_owned()),
            ChangeOption::Password("SOURCE_MASTER_'x".to_owned()),
            ChangeOption::Ssl(false),
            ChangeOption::SslText("CA", "/a".to_owned()),
            ChangeOption::IgnoreServerIds(vec![3, 4]),
        ];
        assert_eq!(
            dialect("9.7.4", "").change(&options),
            "CHANGE REPLICATION SOURCE TO SOURCE_USER='r\\'epl', SOURCE_PASSWORD='SOURCE_MASTER_\\'x', \
             SOURCE_SSL=0, SOURCE_SSL_CA='/a', IGNORE_SERVER_IDS=(3,4)"
        );
        assert!(!format!("{options:?}").contains("SOURCE_MASTER_"));
    }
}
