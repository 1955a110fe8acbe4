//! The list of experiments, the dangerous ones first.

use futures::future::BoxFuture;

use super::{Bench, Seen, Trouble};
use super::{channels, connection, created, encrypted, formats, halting, kept, positions};
use crate::sandbox::ServerKind::{self, MySql56, MySql57, MySql80, MySql97};

/// One experiment.
pub struct Experiment {
    /// Its name.
    pub name: &'static str,
    /// What the record says.
    pub recorded: &'static str,
    /// On servers with `gtid_mode=ON`.
    pub gtid: bool,
    /// Why it is not played on a line: `None` if it is, an empty reason if the line has nothing of the kind.
    pub lacks: fn(ServerKind) -> Option<&'static str>,
    /// Plays it.
    pub play: fn(&Bench) -> BoxFuture<'_, Result<Seen, Trouble>>,
}

fn everywhere(_: ServerKind) -> Option<&'static str> {
    None
}

fn mariadb(kind: ServerKind) -> Option<&'static str> {
    (!kind.is_mariadb()).then_some("")
}

fn mysql(kind: ServerKind) -> Option<&'static str> {
    kind.is_mariadb().then_some("")
}

fn from_57(kind: ServerKind) -> Option<&'static str> {
    (kind == MySql56).then_some("")
}

fn xa_in_the_log(kind: ServerKind) -> Option<&'static str> {
    // 5.6 writes an XA transaction when it is committed, as any other.
    from_57(kind)
}

fn semi_sync(kind: ServerKind) -> Option<&'static str> {
    matches!(kind, MySql56 | MySql57 | MySql80)
        .then_some("the package that can be had has no semi-synchronous plugins")
}

fn only_97(kind: ServerKind) -> Option<&'static str> {
    (kind != MySql97).then_some("")
}

fn encryption_of_mysql(kind: ServerKind) -> Option<&'static str> {
    match kind {
        MySql97 => None,
        MySql80 => Some("the package of 8.0.15 that can be had has no keyring plugin"),
        _ => Some(""),
    }
}

macro_rules! experiment {
    ($name:literal, $recorded:literal, $gtid:literal, $lacks:expr, |$bench:ident| $play:expr) => {
        Experiment {
            name: $name,
            recorded: $recorded,
            gtid: $gtid,
            lacks: $lacks,
            play: |$bench| Box::pin($play),
        }
    };
}

/// All of them.
pub const ALL: &[Experiment] = &[
    // 1.1
    experiment!("created/rows", "100 of 100", false, everywhere, |bench| {
        created::rows(bench, 0)
    }),
    experiment!(
        "created/rows-workers",
        "100 of 100",
        false,
        everywhere,
        |bench| created::rows(bench, 4)
    ),
    experiment!("created/temporary", "works", false, everywhere, |bench| {
        created::temporary(bench)
    }),
    experiment!(
        "created/temporary-change",
        "untried",
        false,
        everywhere,
        |bench| created::temporary_across_change(bench)
    ),
    experiment!(
        "created/put-back",
        "5.6 and MariaDB lose rows, 9.7 does not",
        false,
        everywhere,
        |bench| created::kept(bench)
    ),
    experiment!("created/rows-gtid", "100 of 100", true, mysql, |bench| {
        created::rows(bench, 0)
    }),
    experiment!(
        "created/rows-gtid-workers",
        "100 of 100",
        true,
        mysql,
        |bench| created::rows(bench, 4)
    ),
    // 1.2
    experiment!(
        "half/agent",
        "KILL, replay equal",
        false,
        everywhere,
        |bench| halting::by_the_agent(bench, 0)
    ),
    experiment!(
        "half/agent-workers",
        "KILL, replay equal",
        false,
        everywhere,
        |bench| halting::by_the_agent(bench, 4)
    ),
    experiment!(
        "half/agent-gtid",
        "KILL, replay equal",
        true,
        mysql,
        |bench| halting::by_the_agent(bench, 4)
    ),
    experiment!(
        "half/agent-myisam",
        "row twice, reported",
        false,
        everywhere,
        |bench| halting::with_myisam(bench)
    ),
    // 1.3, 1.8
    experiment!(
        "workers/lag",
        "behind; exact after STOP",
        false,
        everywhere,
        |bench| halting::lag(bench)
    ),
    experiment!("workers/gap-crash", "filled", false, mysql, |bench| {
        halting::gap_and_crash(bench)
    }),
    experiment!("workers/gap-crash-gtid", "filled", true, mysql, |bench| {
        halting::gap_and_crash(bench)
    }),
    // 1.4, 2: several files
    experiment!(
        "end/rotates",
        "(next file, 4)",
        false,
        everywhere,
        |bench| positions::rotates(bench)
    ),
    experiment!("end/restart", "untried", false, everywhere, |bench| {
        positions::restart(bench)
    }),
    experiment!(
        "end/stop-event",
        "never counted",
        false,
        everywhere,
        |bench| positions::stop_event(bench)
    ),
    // 1.5
    experiment!(
        "gtid-pos/answers",
        "exact or nothing",
        false,
        mariadb,
        |bench| positions::gtid_answers(bench)
    ),
    experiment!("gtid-pos/end", "unchanged", false, mariadb, |bench| {
        positions::gtid_at_the_end(bench)
    }),
    experiment!("gtid-pos/middle", "exact", false, mariadb, |bench| {
        positions::gtid_from_the_middle(bench)
    }),
    // 1.6
    experiment!(
        "relay-logs/delayed",
        "served from executed",
        false,
        everywhere,
        |bench| kept::delayed(bench)
    ),
    experiment!(
        "relay-logs/slave-pos-agent",
        "nothing lost",
        false,
        mariadb,
        |bench| kept::apply_to_slave_pos(bench)
    ),
    experiment!("relay-logs/change", "deleted", false, everywhere, |bench| {
        kept::on_change(bench)
    }),
    experiment!(
        "relay-logs/slave-pos-start",
        "deleted",
        false,
        mariadb,
        |bench| kept::on_start_by_slave_pos(bench)
    ),
    // 4: XA, LOAD DATA, compression, tags, domains, channels
    experiment!("xa/row", "untried", false, everywhere, |bench| formats::xa(
        bench, "ROW"
    )),
    experiment!("xa/statement", "untried", false, everywhere, |bench| {
        formats::xa(bench, "STATEMENT")
    }),
    experiment!("xa/gtid", "untried", true, mysql, |bench| formats::xa(
        bench, "ROW"
    )),
    experiment!("xa/agent", "untried", false, xa_in_the_log, |bench| {
        formats::xa_apply(bench)
    }),
    experiment!("load-data", "untried", false, everywhere, |bench| {
        formats::load_data(bench)
    }),
    experiment!(
        "compressed/row",
        "untried",
        false,
        formats::lacks_compression,
        |bench| formats::compressed(bench, "ROW")
    ),
    experiment!(
        "compressed/statement",
        "untried",
        false,
        formats::lacks_statement_compression,
        |bench| formats::compressed(bench, "STATEMENT")
    ),
    experiment!("tagged", "untried", true, only_97, |bench| formats::tagged(
        bench
    )),
    experiment!("domains/parallel", "untried", false, mariadb, |bench| {
        channels::domains(bench)
    }),
    experiment!("domains/ahead-crash", "untried", false, mariadb, |bench| {
        channels::domain_ahead_and_crash(bench)
    }),
    experiment!("channels/second", "untried", false, from_57, |bench| {
        channels::second_channel(bench)
    }),
    experiment!("encrypted/mariadb", "untried", false, mariadb, |bench| {
        encrypted::of_mariadb(bench)
    }),
    experiment!(
        "encrypted/mysql",
        "untried",
        false,
        encryption_of_mysql,
        |bench| encrypted::of_mysql(bench)
    ),
    // 1.7 and 2: the connection
    experiment!("login", "accepted", false, everywhere, |bench| {
        connection::login(bench)
    }),
    experiment!("semi-sync", "declined", false, semi_sync, |bench| {
        connection::semi_sync(bench)
    }),
    experiment!(
        "stream/silence",
        "no reconnect",
        false,
        everywhere,
        |bench| connection::silence(bench)
    ),
    experiment!(
        "stream/hang",
        "reconnects after slave_net_timeout",
        false,
        everywhere,
        |bench| connection::hang(bench)
    ),
    experiment!("stream/not-held", "1236", false, everywhere, |bench| {
        connection::not_held(bench)
    }),
    experiment!(
        "stream/failed",
        "1236, what was sent is applied",
        false,
        everywhere,
        |bench| connection::failed(bench)
    ),
    experiment!("stream/large", "untried", false, everywhere, |bench| {
        connection::large_events(bench)
    }),
    // 1.2: what STOP alone does, up to a minute each
    experiment!(
        "stop/one-thread",
        "at once, 9.7 a minute",
        false,
        everywhere,
        |bench| halting::by_stop(bench, 0)
    ),
    experiment!(
        "stop/workers",
        "MySQL a minute, MariaDB at once",
        false,
        everywhere,
        |bench| halting::by_stop(bench, 4)
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_line_has_something_of_every_section() {
        let mut names: Vec<&str> = ALL.iter().map(|experiment| experiment.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for kind in ServerKind::ALL {
            for section in ["created", "half", "end", "relay-logs", "xa", "stream"] {
                let has = ALL.iter().any(|experiment| {
                    experiment.name.starts_with(section) && (experiment.lacks)(kind).is_none()
                });
                assert!(has, "{kind} {section}");
            }
        }
    }
}
