//! What the local source knows when a replica asks: a table made from the dead primary's identity, and the
//! session's own variables.
//!
//! Unknown variables are unknown: error 1193 to a SELECT and to a SET from it, an empty result to SHOW VARIABLES. A
//! replica takes that as "my source is too old for this". Any row instead, even `OFF`, would be taken as a yes
//! somewhere: semi-synchronous replication is unknown here on purpose, since a replica that learns of it demands
//! headers on every event.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::identity::{Flavor, SourceIdentity};
use super::query::{Assignment, Expression, Statement, like, parse};
use super::response::{ErrorReply, Reply, Rows};

/// Most user variables of one session.
const MAX_USER_VARIABLES: usize = 256;
/// Longest value of a user variable kept, in bytes.
const MAX_VALUE: usize = 16 * 1024;

/// The table, one per local source.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    variables: BTreeMap<&'static str, String>,
    flavor: Flavor,
}

impl Answers {
    /// The table of a primary.
    pub(super) fn of(identity: &SourceIdentity) -> Self {
        let mut variables = BTreeMap::new();
        let mut put = |name: &'static str, value: Option<String>| {
            if let Some(value) = value {
                variables.insert(name, value);
            }
        };
        put("server_id", Some(identity.server_id.to_string()));
        put("server_uuid", identity.server_uuid.clone());
        put("gtid_mode", identity.gtid_mode.clone());
        put("binlog_checksum", identity.binlog_checksum.clone());
        if identity.flavor == Flavor::MariaDb {
            // A replica in GTID mode asks for it to learn whether its source knows GTIDs, and reads no more into it:
            // the domains of events are in the events.
            put("gtid_domain_id", Some("0".to_owned()));
        }
        put("version", Some(identity.plain_version().to_owned()));
        put(
            "version_comment",
            Some("local source of mha-node-agent".to_owned()),
        );
        // What client libraries ask of any server.
        put("max_allowed_packet", Some("1073741824".to_owned()));
        put("wait_timeout", Some("28800".to_owned()));
        Self {
            variables,
            flavor: identity.flavor,
        }
    }
}

/// A question only the event stream can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GtidPosQuestion {
    /// Column name of the answer.
    pub(super) column: String,
    /// Binary log file as asked.
    pub(super) file: String,
    /// Offset as asked.
    pub(super) offset: u64,
}

/// What becomes of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Answered from the table.
    Reply(Reply),
    /// `SELECT binlog_gtid_pos(file, offset)`: exact, or the empty string.
    GtidPos(GtidPosQuestion),
}

/// Whether events carry a checksum, as far as the replica is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplicaChecksum {
    /// It never asked: it predates checksums and cannot read events that have one.
    Unaware,
    /// Until the first format description, events come without.
    None,
    /// Until the first format description, events come with CRC-32.
    Crc32,
}

/// One session: the variables it set.
#[derive(Debug, Default)]
pub(super) struct Session {
    user_variables: BTreeMap<String, Option<String>>,
}

impl Session {
    /// Answers one statement.
    pub(super) fn answer(&mut self, answers: &Answers, text: &str) -> Answer {
        let reply = match parse(text) {
            Statement::Select(items) => return self.select(answers, items),
            Statement::ShowVariables { like: pattern } => show(answers, pattern.as_deref()),
            Statement::ShowStatus => Reply::Rows(Rows {
                columns: vec!["Variable_name".to_owned(), "Value".to_owned()],
                rows: Vec::new(),
            }),
            Statement::Set(assignments) => self.set(answers, assignments),
            // MariaDB kills its dump thread over a second connection when the receiver stops with an error.
            Statement::Kill => Reply::Ok,
            Statement::Other => Reply::Error(ErrorReply::not_understood(&excerpt(text))),
        };
        Answer::Reply(reply)
    }

    /// Forgets everything (`COM_RESET_CONNECTION`).
    pub(super) fn reset(&mut self) {
        self.user_variables.clear();
    }

    /// What the replica made of the checksum question.
    pub(super) fn checksum(&self) -> ReplicaChecksum {
        match self.either("source_binlog_checksum", "master_binlog_checksum") {
            None => ReplicaChecksum::Unaware,
            Some(text) if text.eq_ignore_ascii_case("CRC32") || text == "1" => {
                ReplicaChecksum::Crc32
            }
            Some(_) => ReplicaChecksum::None,
        }
    }

    /// The heartbeat period the replica asked for; `None` if it wants none.
    pub(super) fn heartbeat_period(&self) -> Option<Duration> {
        let text = self.either("source_heartbeat_period", "master_heartbeat_period")?;
        let nanoseconds: u64 = text.parse().ok()?;
        (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
    }

    /// The GTID position from which the replica wants to be served (MariaDB's `MASTER_USE_GTID`); `None` if it asks by
    /// file and position.
    pub(super) fn mariadb_connect_state(&self) -> Option<&str> {
        self.user_variables
            .get("slave_connect_state")
            .map(|state| state.as_deref().unwrap_or(""))
    }

    fn either(&self, new: &str, old: &str) -> Option<&str> {
        let value = |name| self.user_variables.get(name).and_then(Option::as_deref);
        value(new).or_else(|| value(old))
    }

    fn select(&self, answers: &Answers, items: Vec<(String, Expression)>) -> Answer {
        if let [(column, Expression::Call { name, arguments })] = items.as_slice()
            && name == "binlog_gtid_pos"
            && answers.flavor == Flavor::MariaDb
            && let [file, offset] = arguments.as_slice()
            && let Ok(offset) = offset.parse()
        {
            return Answer::GtidPos(GtidPosQuestion {
                column: column.clone(),
                file: file.clone(),
                offset,
            });
        }
        let mut columns = Vec::new();
        let mut row = Vec::new();
        for (column, expression) in items {
            match self.value(answers, &expression) {
                Ok(value) => {
                    columns.push(column);
                    row.push(value);
                }
                Err(error) => return Answer::Reply(Reply::Error(error)),
            }
        }
        Answer::Reply(Reply::Rows(Rows {
            columns,
            rows: vec![row],
        }))
    }

    fn set(&mut self, answers: &Answers, assignments: Vec<Assignment>) -> Reply {
        // All or nothing, as the server does it.
        let mut values = Vec::new();
        for assignment in assignments {
            if let Assignment::User { name, value } = assignment {
                match self.value(answers, &value) {
                    Ok(value) => values.push((name, value)),
                    Err(error) => return Reply::Error(error),
                }
            }
        }
        for (name, value) in values {
            let known = self.user_variables.contains_key(&name);
            let size = name.len() + value.as_ref().map_or(0, String::len);
            if size > MAX_VALUE || !known && self.user_variables.len() >= MAX_USER_VARIABLES {
                return Reply::Error(ErrorReply::not_understood(&excerpt(&name)));
            }
            self.user_variables.insert(name, value);
        }
        Reply::Ok
    }

    fn value(
        &self,
        answers: &Answers,
        expression: &Expression,
    ) -> Result<Option<String>, ErrorReply> {
        let unknown = |name: &str| ErrorReply::unknown_variable(&excerpt(name));
        match expression {
            Expression::Literal(text) => Ok(Some(text.clone())),
            Expression::Null => Ok(None),
            Expression::UserVariable(name) => Ok(self.user_variables.get(name).cloned().flatten()),
            Expression::SystemVariable(name) => answers
                .variables
                .get(name.as_str())
                .map(|value| Some(value.clone()))
                .ok_or_else(|| unknown(name)),
            Expression::Call { name, arguments } if arguments.is_empty() => match name.as_str() {
                "unix_timestamp" => Ok(Some(unix_time().to_string())),
                "version" => Ok(answers.variables.get("version").cloned()),
                _ => Err(unknown(name)),
            },
            Expression::Call { name, .. } | Expression::Unknown(name) => Err(unknown(name)),
        }
    }
}

fn show(answers: &Answers, pattern: Option<&str>) -> Reply {
    let rows = answers
        .variables
        .iter()
        .filter(|(name, _)| pattern.is_none_or(|pattern| like(pattern, name)))
        .map(|(name, value)| vec![Some((*name).to_owned()), Some(value.clone())])
        .collect();
    Reply::Rows(Rows {
        columns: vec!["Variable_name".to_owned(), "Value".to_owned()],
        rows,
    })
}

/// Seconds since 1970; replicas compute `Seconds_Behind_Master` from the difference to their own clock.
fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

/// Enough of a statement to recognise it in an error message.
fn excerpt(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::identity::tests::{mariadb, mysql56};
    use super::*;

    fn value_of(session: &mut Session, answers: &Answers, text: &str) -> Option<String> {
        match session.answer(answers, text) {
            Answer::Reply(Reply::Rows(Rows { mut rows, .. })) => {
                assert_eq!(rows.len(), 1, "{text}");
                rows.remove(0).pop().unwrap()
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn error_of(session: &mut Session, answers: &Answers, text: &str) -> u16 {
        match session.answer(answers, text) {
            Answer::Reply(Reply::Error(error)) => error.code,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_identity_is_told_in_every_spelling() {
        let answers = Answers::of(&mysql56());
        let session = &mut Session::default();
        for (text, expected) in [
            ("SHOW VARIABLES LIKE 'SERVER_ID'", "1"),
            ("SELECT @@GLOBAL.SERVER_ID", "1"),
            (
                "SHOW VARIABLES LIKE 'SERVER_UUID'",
                "3e11fa47-71ca-11e1-9e33-c80aa9429562",
            ),
            (
                "SELECT @@GLOBAL.SERVER_UUID",
                "3e11fa47-71ca-11e1-9e33-c80aa9429562",
            ),
            ("SELECT @@GLOBAL.GTID_MODE", "OFF"),
            ("select version()", "5.6.24-log"),
        ] {
            assert_eq!(
                value_of(session, &answers, text).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        let now: u64 = value_of(session, &answers, "SELECT UNIX_TIMESTAMP()")
            .unwrap()
            .parse()
            .unwrap();
        assert!(now > 1_700_000_000);
    }

    #[test]
    fn unknown_things_are_unknown_and_never_empty_rows() {
        let answers = Answers::of(&mariadb());
        let session = &mut Session::default();
        for text in [
            "SELECT @@GLOBAL.GTID_MODE",
            "SELECT @@GLOBAL.SERVER_UUID",
            "SELECT @@global.rpl_semi_sync_source_enabled",
            "SELECT @@global.rpl_semi_sync_master_enabled",
            "SELECT NOW()",
            "SELECT 1 + 1",
            "SELECT a FROM t",
            "SET @x = @@global.no_such_thing",
        ] {
            assert_eq!(error_of(session, &answers, text), 1193, "{text}");
        }
        let none = session.answer(
            &answers,
            "SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'",
        );
        assert!(
            matches!(none, Answer::Reply(Reply::Rows(Rows { ref rows, .. })) if rows.is_empty()),
            "{none:?}"
        );
        assert_eq!(error_of(session, &answers, "DROP TABLE t"), 1064);
        assert_eq!(
            session.answer(&answers, "KILL 99"),
            Answer::Reply(Reply::Ok)
        );
    }

    #[test]
    fn checksum_and_heartbeat_follow_what_the_replica_set() {
        let answers = Answers::of(&mysql56());
        let session = &mut Session::default();
        assert_eq!(session.checksum(), ReplicaChecksum::Unaware);
        assert_eq!(session.heartbeat_period(), None);
        session.answer(
            &answers,
            "SET @master_heartbeat_period= 1500000000, @source_heartbeat_period = 2000000000",
        );
        assert_eq!(
            session.heartbeat_period(),
            Some(Duration::from_millis(2000))
        );
        session.answer(
            &answers,
            "SET @master_binlog_checksum= @@global.binlog_checksum",
        );
        assert_eq!(
            value_of(session, &answers, "SELECT @master_binlog_checksum").as_deref(),
            Some("CRC32")
        );
        assert_eq!(session.checksum(), ReplicaChecksum::Crc32);
        session.answer(&answers, "SET @master_binlog_checksum='NONE'");
        assert_eq!(session.checksum(), ReplicaChecksum::None);
        session.reset();
        assert_eq!(session.checksum(), ReplicaChecksum::Unaware);
    }

    #[test]
    fn a_session_keeps_only_so_many_variables() {
        let answers = Answers::of(&mysql56());
        let session = &mut Session::default();
        for number in 0..MAX_USER_VARIABLES {
            assert_eq!(
                session.answer(&answers, &format!("SET @v{number}=1")),
                Answer::Reply(Reply::Ok)
            );
        }
        assert_eq!(error_of(session, &answers, "SET @one_more=1"), 1064);
        assert_eq!(
            session.answer(&answers, "SET @v0=2"),
            Answer::Reply(Reply::Ok)
        );
    }

    #[test]
    fn gtid_positions_are_a_question_to_the_stream_and_only_on_mariadb() {
        let text = "SELECT binlog_gtid_pos('bin.000001',328)";
        let found = Session::default().answer(&Answers::of(&mariadb()), text);
        assert_eq!(
            found,
            Answer::GtidPos(GtidPosQuestion {
                column: "binlog_gtid_pos('bin.000001',328)".to_owned(),
                file: "bin.000001".to_owned(),
                offset: 328
            })
        );
        assert_eq!(
            error_of(&mut Session::default(), &Answers::of(&mysql56()), text),
            1193
        );
    }
}
