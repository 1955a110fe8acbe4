//! The agent's own SQL ping: one small read of two global variables, through a session that stays open.
//!
//! One ping is under way at a time. A server that does not answer is reported as silent while it is silent, for as long as
//! it is; a server that answers with an error lives, whatever the error is.

use std::sync::Arc;
use std::time::Duration;

use proto::watch::{Process, Socket, SocketState, SqlState};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::knock::{Doorbell, knock};
use super::patience::{self, Patience, SILENT_AFTER};
use super::{Facts, ServerWatch, clock};
use crate::agent::LocalServer;
use crate::error::chain;
use crate::mysqld::row::flag_of;
use crate::mysqld::{Endpoint, Row, Session, SqlError};

/// Pause between two pings of a server that answers, or has no process.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause between two tries of a process that does not listen yet: this is how its readiness is seen.
const PAUSE_STARTING: Duration = Duration::from_millis(20);
/// After this time a ping is given up and another session tried; the silence goes on counting.
const GIVE_UP: Duration = Duration::from_secs(5);
/// Longer than [`GIVE_UP`], so that a session never ends a wait by itself.
const NEVER: Duration = Duration::from_secs(60);

/// What one ping told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pong {
    sql: SqlState,
    /// What the socket showed, if it was tried.
    socket: Option<SocketState>,
    /// `read_only` and `super_read_only`, if answered.
    read_only: Option<(bool, Option<bool>)>,
}

pub(super) async fn run(server: Arc<LocalServer>, stop: CancellationToken) {
    let bell = Doorbell::new(&server.config.name, &server.config.socket);
    let mut session = None;
    let mut patience = Patience::default();
    loop {
        let one = timeout(GIVE_UP, ping(&server, &mut session));
        let watch = &server.watch;
        let answered = tokio::select! {
            () = stop.cancelled() => return,
            answered = patience::attend(&mut patience, one, |silent| is_silent(watch, silent)) => answered,
        };
        let mut pause = PAUSE;
        match answered {
            Ok(pong) => {
                patience.over();
                pause = pause_after(&watch.facts().process, &pong.sql);
                learn(watch, pong);
            }
            // The statement was dropped with its connection.
            Err(_) => session = None,
        }
        let connected = session.is_some();
        tokio::select! {
            () = stop.cancelled() => return,
            () = watch.ping_now.notified() => {}
            () = bell.rings(&server.config.socket), if !connected => watch.look_now.notify_one(),
            () = sleep(pause) => {}
        }
    }
}

fn pause_after(process: &Process, sql: &SqlState) -> Duration {
    match (process, sql) {
        (Process::Running { .. }, SqlState::Unreachable { .. }) => PAUSE_STARTING,
        _ => PAUSE,
    }
}

async fn ping(server: &LocalServer, session: &mut Option<Session>) -> Pong {
    let began = Instant::now();
    // An open session that broke says that the server is gone, or that this session was ended: the socket tells which.
    if let Some(open) = session
        && let Ok(read_only) = ask(open).await
    {
        return alive(began, None, read_only);
    }
    *session = None;
    let socket = knock(&server.config.socket).await;
    if socket != SocketState::Accepts {
        let text = match &socket {
            SocketState::Refuses => "nobody listens at the socket",
            SocketState::Absent => "there is no socket",
            SocketState::NoAnswer => "the socket's queue is full",
            SocketState::Unknown { reason } => reason,
            SocketState::Accepts => "",
        };
        let sql = SqlState::Unreachable {
            text: text.to_owned(),
        };
        return Pong {
            sql,
            socket: Some(socket),
            read_only: None,
        };
    }
    let failed = |sql| Pong {
        sql,
        socket: Some(SocketState::Accepts),
        read_only: None,
    };
    let endpoint = match Endpoint::from_config(&server.config) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            return failed(SqlState::NotConfigured {
                text: chain(&error),
            });
        }
    };
    let mut fresh = match Session::connect(&endpoint, NEVER).await {
        Ok(fresh) => fresh,
        Err(error) => return failed(trouble(&error)),
    };
    match ask(&mut fresh).await {
        Ok(read_only) => {
            *session = Some(fresh);
            alive(began, Some(SocketState::Accepts), read_only)
        }
        Err(error) => failed(trouble(&error)),
    }
}

fn alive(began: Instant, socket: Option<SocketState>, read_only: (bool, Option<bool>)) -> Pong {
    Pong {
        sql: SqlState::Alive {
            took: began.elapsed(),
        },
        socket,
        read_only: Some(read_only),
    }
}

async fn ask(session: &mut Session) -> Result<(bool, Option<bool>), SqlError> {
    let has_super = session.version().is_mysql_from(5, 7, 8);
    let sql = if has_super {
        "SELECT @@GLOBAL.read_only AS read_only, @@GLOBAL.super_read_only AS super_read_only"
    } else {
        "SELECT @@GLOBAL.read_only AS read_only"
    };
    let row = session.query_row(sql, NEVER).await?;
    let row = row.as_ref();
    // MariaDB 12 has further values (NO_LOCK, ..), all of which forbid writes.
    let forbids = |row: &Row, column| flag_of(row.text_or_empty(column)).unwrap_or(true);
    Ok((
        row.is_some_and(|row| forbids(row, "read_only")),
        row.filter(|_| has_super)
            .map(|row| forbids(row, "super_read_only")),
    ))
}

/// An error of the server is an answer; anything else is none.
fn trouble(error: &SqlError) -> SqlState {
    match error {
        SqlError::Refused { errno, text, .. } => SqlState::Error {
            errno: *errno,
            text: text.clone(),
        },
        other => SqlState::Unreachable { text: chain(other) },
    }
}

fn is_silent(watch: &ServerWatch, silent: Duration) {
    if silent < SILENT_AFTER {
        return;
    }
    watch.update(|facts| {
        let news = !matches!(facts.sql.state, SqlState::NoAnswer { .. });
        facts.sql.state = SqlState::NoAnswer { silent };
        news
    });
}

fn learn(watch: &ServerWatch, pong: Pong) {
    let now = clock::now();
    watch.update(|facts: &mut Facts| {
        let before = facts.clone();
        if let Some(state) = pong.socket
            && state != facts.socket.state
        {
            facts.socket = Socket { state, since: now };
        }
        if !matches!(
            pong.sql,
            SqlState::Unreachable { .. } | SqlState::NotConfigured { .. }
        ) {
            facts.sql.answered = Some(now);
        }
        facts.sql.state = pong.sql;
        if let Some((read_only, super_read_only)) = pong.read_only {
            facts.read_only = Some(read_only);
            facts.super_read_only = super_read_only;
        }
        before.read_only != facts.read_only
            || before.super_read_only != facts.super_read_only
            || before.socket != facts.socket
            || std::mem::discriminant(&before.sql.state) != std::mem::discriminant(&facts.sql.state)
            || matches!(facts.sql.state, SqlState::Error { .. }) && before.sql != facts.sql
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(sql: SqlState) -> Pong {
        Pong {
            sql,
            socket: Some(SocketState::Accepts),
            read_only: None,
        }
    }

    #[test]
    fn an_error_is_an_answer_and_a_broken_connection_is_none() {
        let refused = SqlError::Refused {
            server: "db1:3306".into(),
            what: "connect".into(),
            errno: 1040,
            text: "Too many connections".into(),
        };
        assert_eq!(
            trouble(&refused),
            SqlState::Error {
                errno: 1040,
                text: "Too many connections".into()
            }
        );
        let broken = SqlError::OutcomeUnknown {
            server: "db1:3306".into(),
            what: "ping".into(),
            waited: Duration::ZERO,
            reason: "end of file".into(),
        };
        assert!(matches!(trouble(&broken), SqlState::Unreachable { .. }));
    }

    #[test]
    fn silence_is_told_once_it_is_long_and_grows_quietly() {
        let watch = ServerWatch::new();
        let mut news = watch.subscribe();
        learn(
            &watch,
            pong(SqlState::Alive {
                took: Duration::from_micros(100),
            }),
        );
        assert!(news.has_changed().unwrap());
        news.mark_unchanged();
        is_silent(&watch, SILENT_AFTER - Duration::from_millis(1));
        assert!(!news.has_changed().unwrap());
        assert!(matches!(watch.facts().sql.state, SqlState::Alive { .. }));
        is_silent(&watch, SILENT_AFTER);
        assert!(news.has_changed().unwrap());
        news.mark_unchanged();
        is_silent(&watch, SILENT_AFTER * 9);
        assert!(!news.has_changed().unwrap());
        let facts = watch.facts();
        assert_eq!(
            facts.sql.state,
            SqlState::NoAnswer {
                silent: SILENT_AFTER * 9
            }
        );
        assert!(facts.sql.answered.is_some());
        // Unreachable is no answer: the last one stays.
        learn(
            &watch,
            pong(SqlState::Unreachable {
                text: "gone".into(),
            }),
        );
        assert_eq!(watch.facts().sql.answered, facts.sql.answered);
    }

    #[test]
    fn a_process_that_does_not_listen_yet_is_tried_soon() {
        let since = clock::now();
        let running = Process::Running { pid: 7, since };
        let gone = Process::NotRunning { since };
        let unreachable = SqlState::Unreachable {
            text: String::new(),
        };
        assert_eq!(pause_after(&running, &unreachable), PAUSE_STARTING);
        assert_eq!(pause_after(&gone, &unreachable), PAUSE);
        assert_eq!(pause_after(&running, &SqlState::NotTried), PAUSE);
    }
}
