//! The local relay logs that are not executed yet, read while nobody writes them.
//!
//! Only valid after the receiver was stopped: then they are final, and what they end with decides how the applier may
//! be stopped.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use binlog_core::{
    BinlogPosition, LogError, RelayFileName, RelayLogs, ServerId, UnfinishedTail, read_index,
};

use super::ReplicationError;
use super::local::Control;
use crate::mysqld::status::ReplicaStatus;
use crate::mysqld::variables::Variables;

/// Relay logs of the local server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayFiles {
    /// All files of the index that exist, oldest first.
    pub files: Vec<(RelayFileName, PathBuf)>,
    /// Own server id.
    pub owner: ServerId,
}

/// What was received beyond the executed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// End of the last whole transaction; `None` if nothing is held.
    pub whole_end: Option<BinlogPosition>,
    /// End of the last event; `None` if nothing is held.
    pub data_end: Option<BinlogPosition>,
    /// The part of a transaction behind it, if the received range ends inside one.
    pub tail: Option<UnfinishedTail>,
}

impl RelayFiles {
    /// Lists the relay logs of a server. Their directory is that of the base name, as for the server itself; entries of
    /// the index that were purged meanwhile are left out.
    pub async fn list(
        server: &str,
        variables: &Variables,
        owner: ServerId,
    ) -> Result<Self, ReplicationError> {
        let datadir = PathBuf::from(variables.text("datadir"));
        let base = match (
            variables.text("relay_log_basename"),
            variables.text("relay_log"),
        ) {
            ("", "") => {
                return Err(ReplicationError::Contradiction {
                    server: server.to_owned(),
                    what: "relay_log_basename",
                    expected: "the base name of the relay logs".to_owned(),
                    found: "nothing".to_owned(),
                });
            }
            ("", name) | (name, _) => datadir.join(name),
        };
        let index = match variables.text("relay_log_index") {
            "" => base.with_extension("index"),
            name => datadir.join(name),
        };
        blocking("listing relay logs", move || {
            let directory = base.parent().map_or_else(PathBuf::new, PathBuf::from);
            let mut files = Vec::new();
            for entry in entries(&index)? {
                let Some(name) = entry.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                let Ok(parsed) = name.parse::<RelayFileName>() else {
                    continue;
                };
                let path = directory.join(name);
                if path.exists() {
                    files.push((parsed, path));
                }
            }
            Ok(Self { files, owner })
        })
        .await
    }

    /// [`RelayFiles::list`] over an open session.
    pub(super) async fn of(
        control: &mut Control,
        variables: &Variables,
    ) -> Result<Self, ReplicationError> {
        let owner = ServerId(control.server_id().await?);
        let server = control.session.server().to_owned();
        Self::list(&server, variables, owner).await
    }

    /// Paths of all files, to be kept aside.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(_, path)| path.clone()).collect()
    }

    /// Reads what was received from the applier's file on. Walks those files once, and again where the applier got through
    /// with one meanwhile and the server deleted it: what was in it is executed.
    pub async fn received(&self, status: &ReplicaStatus) -> Result<Received, ReplicationError> {
        let mut there = self.clone();
        loop {
            match there.received_now(status).await {
                Err(ReplicationError::Log(error)) if is_absent(&error) => {
                    let before = there.files.len();
                    there.files.retain(|(_, path)| path.exists());
                    // The server writes the last one; whatever became of that, it was not purged.
                    if there.files.len() == before || there.files.is_empty() {
                        return Err(error.into());
                    }
                }
                read => return read,
            }
        }
    }

    async fn received_now(&self, status: &ReplicaStatus) -> Result<Received, ReplicationError> {
        let first = status.relay.as_ref().map(|relay| relay.file.clone());
        let files: Vec<_> = self
            .files
            .iter()
            .filter(|(name, _)| first.as_ref().is_none_or(|first| name >= first))
            .cloned()
            .collect();
        if files.is_empty() {
            return Ok(Received {
                whole_end: None,
                data_end: None,
                tail: None,
            });
        }
        let (owner, latest) = (self.owner, status.read.clone());
        blocking("reading relay logs", move || {
            let logs = RelayLogs::open(files, owner, latest)?;
            let survey = logs.survey()?;
            Ok(Received {
                whole_end: survey.whole_end,
                data_end: survey.data_end,
                tail: logs.unfinished_tail()?,
            })
        })
        .await
    }
}

/// How long the index of the relay logs may be away.
const INDEX_AWAY: Duration = Duration::from_secs(1);

/// Entries of the index. MySQL deletes it when it purges relay logs, and then gives its name to a new one.
fn entries(index: &Path) -> Result<Vec<PathBuf>, LogError> {
    let began = Instant::now();
    loop {
        match read_index(index) {
            Err(error) if is_absent(&error) && began.elapsed() < INDEX_AWAY => {
                std::thread::sleep(Duration::from_millis(2));
            }
            read => return read,
        }
    }
}

fn is_absent(error: &LogError) -> bool {
    match error {
        LogError::Missing { .. } => true,
        LogError::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}

/// Runs disk work in a blocking thread.
pub(super) async fn blocking<T, F>(doing: &'static str, work: F) -> Result<T, ReplicationError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ReplicationError> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(ReplicationError::Aborted { doing }))
}

/// Non-transactional tables among those that an unfinished transaction names.
///
/// Table_map events name tables exactly; statements are searched for the names of all non-transactional tables as whole
/// words, which may name one too many but none too few. Sorted, `db.table`.
pub(super) async fn non_transactional(
    control: &mut Control,
    tail: &UnfinishedTail,
    limit: Duration,
) -> Result<Vec<String>, ReplicationError> {
    let rows = control
        .session
        .query_rows(
            "SELECT t.TABLE_SCHEMA AS db, t.TABLE_NAME AS name FROM information_schema.TABLES t \
             JOIN information_schema.ENGINES e ON e.ENGINE=t.ENGINE \
             WHERE e.TRANSACTIONS='NO' AND t.TABLE_TYPE='BASE TABLE' AND t.TABLE_SCHEMA NOT IN \
             ('mysql','information_schema','performance_schema','sys')",
            limit,
        )
        .await?;
    let mut known = Vec::with_capacity(rows.len());
    for row in &rows {
        known.push((row.text("db")?.to_owned(), row.text("name")?.to_owned()));
    }
    Ok(touched(&known, tail))
}

fn touched(known: &[(String, String)], tail: &UnfinishedTail) -> Vec<String> {
    let words: Vec<Vec<String>> = tail
        .statements
        .iter()
        .map(|(_, text)| words_of(text))
        .collect();
    let mut found: Vec<String> = known
        .iter()
        .filter(|(db, name)| {
            tail.tables.iter().any(|(d, t)| d == db && t == name)
                || words.iter().any(|words| words.contains(&name.to_lowercase()))
                // Not all of the transaction could be read: any of them may be among the rest.
                || tail.truncated
        })
        .map(|(db, name)| format!("{db}.{name}"))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Words of a statement in lower case: identifiers as they are written, also inside backquotes.
fn words_of(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$' || c == '-'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_being_replaced_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("relay-bin.index");
        let writing = {
            let index = index.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                std::fs::write(index, "./relay-bin.000007\n").unwrap();
            })
        };
        let found = entries(&index).unwrap();
        assert!(found[0].ends_with("relay-bin.000007"), "{found:?}");
        writing.join().unwrap();
        std::fs::remove_file(&index).unwrap();
        assert!(is_absent(&entries(&index).unwrap_err()));
    }

    #[tokio::test]
    async fn relay_logs_that_are_purged_meanwhile_are_left_out_but_never_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = crate::replication::channel::tests::status("db1", 3306, "repl");
        status.relay = None;
        let files = |numbers: &[u32]| RelayFiles {
            files: numbers
                .iter()
                .map(|number| {
                    let name = format!("relay-bin.{number:06}");
                    (name.parse().unwrap(), folder.path().join(name))
                })
                .collect(),
            owner: ServerId(2),
        };
        std::fs::write(folder.path().join("relay-bin.000003"), "").unwrap();
        let received = files(&[1, 2, 3]).received(&status).await.unwrap();
        assert_eq!(received.whole_end, None);
        let gone = files(&[1, 2]).received(&status).await.unwrap_err();
        assert!(gone.to_string().contains("relay-bin.000001"), "{gone}");
    }

    fn tail(tables: &[(&str, &str)], statements: &[&str], truncated: bool) -> UnfinishedTail {
        UnfinishedTail {
            start: "b.000001:100".parse().unwrap(),
            end: "b.000001:200".parse().unwrap(),
            tables: tables
                .iter()
                .map(|(db, name)| ((*db).to_owned(), (*name).to_owned()))
                .collect(),
            statements: statements
                .iter()
                .map(|text| (Some("app".to_owned()), (*text).to_owned()))
                .collect(),
            truncated,
        }
    }

    #[test]
    fn non_transactional_tables_are_found_in_rows_and_statements() {
        let known = [("app", "log"), ("app", "log2"), ("other", "hits")]
            .map(|(db, name)| (db.to_owned(), name.to_owned()));
        let table: [(UnfinishedTail, &[&str]); 6] = [
            (tail(&[("app", "log")], &[], false), &["app.log"]),
            (tail(&[("app", "orders")], &[], false), &[]),
            (tail(&[("third", "log")], &[], false), &[]),
            (
                tail(&[], &["insert into `LOG` values (1)"], false),
                &["app.log"],
            ),
            (
                tail(&[], &["update orders, other.hits set a=1"], false),
                &["other.hits"],
            ),
            (tail(&[], &[], true), &["app.log", "app.log2", "other.hits"]),
        ];
        for (tail, expected) in table {
            assert_eq!(touched(&known, &tail), expected, "{tail:?}");
        }
    }
}
