//! What must be so at each server.

use super::{Condition, Known, condition};
use crate::config::ServerConfig;
use crate::facts::{Account, Answer, Receiver, Settings};
use crate::lease::{self, LeaseStatus};
use crate::observe::ServerView;
use crate::verdict::Ping;

/// The agents serve no other manager.
pub(super) fn of_record(known: &Known<'_>) -> Condition {
    let manager = &known.config.manager_name;
    condition(
        format!("no other manager than {manager} is of record"),
        known.of_another.is_none(),
        known.of_another.as_ref().map_or_else(
            || "the agents name no other".to_owned(),
            ToString::to_string,
        ),
    )
}

/// Where the configuration wants a lease, it is held: only then is the end of a primary's writing known that nobody reaches.
pub(super) fn of_lease(known: &Known<'_>) -> Option<Condition> {
    if !lease::wanted(known.config) {
        return None;
    }
    let (answer, evidence) = match &known.lease {
        Some(held @ LeaseStatus::Held { .. }) => (Answer::Yes, held.to_string()),
        Some(lost @ (LeaseStatus::Lost { .. } | LeaseStatus::Off { .. })) => {
            (Answer::No, lost.to_string())
        }
        Some(unknown @ LeaseStatus::Unknown { .. }) => (Answer::Unknown, unknown.to_string()),
        None => (Answer::Unknown, "nothing was heard of it".to_owned()),
    };
    Some(Condition {
        name: format!("{} holds its lease", known.primary.name),
        answer,
        evidence,
    })
}

pub(super) fn of_server(known: &Known<'_>, server: &ServerConfig) -> Vec<Condition> {
    let name = &server.name;
    let is_primary = *name == known.primary.name;
    let facts = match known.views.iter().find(|v| v.server == *name) {
        Some(ServerView {
            facts: Ok(facts), ..
        }) => facts,
        Some(ServerView {
            facts: Err(why), ..
        }) => {
            return vec![condition(
                format!("the agent of {name} answers"),
                false,
                why.to_string(),
            )];
        }
        None => {
            let unseen = "it was not read yet".to_owned();
            return vec![condition(
                format!("the agent of {name} answers"),
                false,
                unseen,
            )];
        }
    };
    let mut all = vec![
        condition(
            format!("the agent of {name} answers"),
            true,
            "it does".to_owned(),
        ),
        condition(
            format!("{name} answers SQL"),
            facts.sql_alive(),
            facts
                .sql_error
                .clone()
                .unwrap_or_else(|| "it does".to_owned()),
        ),
        Condition {
            name: format!("the configuration of {name} has read_only=1"),
            answer: facts.configured_read_only.answer,
            evidence: facts.configured_read_only.evidence.clone(),
        },
    ];
    all.extend(
        facts
            .account
            .as_ref()
            .map(|account| of_account(name, account)),
    );
    if let Some(settings) = &facts.settings {
        all.push(condition(
            format!("{name} writes a binary log"),
            settings.log_bin,
            format!("log_bin is {}", on(settings.log_bin)),
        ));
        all.push(readable_logs(name, settings));
        all.push(condition(
            if is_primary {
                format!("{name} is open for writes")
            } else {
                format!("{name} is read-only")
            },
            settings.read_only != is_primary,
            format!("read_only is {}", on(settings.read_only)),
        ));
    }
    if is_primary {
        return all;
    }
    match &facts.replica {
        None => all.push(condition(
            format!("{name} is a replica"),
            false,
            "it has no source".to_owned(),
        )),
        Some(replica) => {
            let error = |error: &Option<crate::facts::ThreadError>| {
                error
                    .as_ref()
                    .map_or_else(|| "no error".to_owned(), ToString::to_string)
            };
            all.push(condition(
                format!("the receiver of {name} is connected"),
                replica.receiver == Receiver::Running,
                error(&replica.receiver_error),
            ));
            all.push(condition(
                format!("the applier of {name} runs"),
                replica.applier_running,
                error(&replica.applier_error),
            ));
        }
    }
    all.push(condition(
        format!("replication credentials of {name} are known to its agent"),
        facts.credentials_source.is_some(),
        facts
            .credentials_source
            .clone()
            .unwrap_or_else(|| "found nowhere".to_owned()),
    ));
    all
}

/// MySQL asks for a privilege where older servers did not, and would say so only in the middle of a failover.
fn of_account(name: &str, account: &Account) -> Condition {
    let missing = account.missing.join(", ");
    condition(
        format!("the agent of {name} may end appliers and sessions there"),
        account.missing.is_empty(),
        if account.missing.is_empty() {
            format!("{} has what it needs", account.name)
        } else {
            format!(
                "account {0} lacks {missing}: the server would refuse (error 1095) to end an applier that waits for the rest of a \
                 transaction, or a session of an administrator; on the primary: GRANT {missing} ON *.* TO {0}",
                account.name
            )
        },
    )
}

/// What its agent will have to read when it is dead.
fn readable_logs(name: &str, settings: &Settings) -> Condition {
    let costs = "what only its disk holds when it dies cannot be saved: a failover stops there, or loses it with --accept-loss";
    let (readable, evidence) = match (&settings.log_encryption, &settings.binlog_storage_engine) {
        (Some(variable), _) => (
            false,
            format!("{variable} is ON, and nobody but the server has the key; {costs}"),
        ),
        (None, Some(engine)) => (
            false,
            format!(
                "binlog_storage_engine is {engine}: its binary log is in pages that only the server can read; {costs}"
            ),
        ),
        (None, None) => (true, "they are files of plain events".to_owned()),
    };
    condition(
        format!("the agent of {name} can read its logs"),
        readable,
        evidence,
    )
}

/// The manager's own account works at the primary: a refused login proves life, and nothing more.
pub(super) fn of_ping(known: &Known<'_>) -> Condition {
    let name = format!("the manager logs in at {}", known.primary.name);
    let (answer, evidence) = match (known.ping, &known.config.monitor.user) {
        (Ping::AnsweredError { .. }, None) => (
            Answer::Yes,
            "no monitor.user is configured: a refused login proves life".to_owned(),
        ),
        (Ping::Answered | Ping::AnsweredQuery { .. }, _) => (Answer::Yes, "it does".to_owned()),
        (refused @ Ping::AnsweredError { .. }, Some(user)) => {
            (Answer::No, format!("as {user}: {refused}"))
        }
        (unclear, _) => (Answer::Unknown, unclear.to_string()),
    };
    Condition {
        name,
        answer,
        evidence,
    }
}

fn on(value: bool) -> &'static str {
    if value { "ON" } else { "OFF" }
}

/// Where the virtual IP is, and whether the server's agent could move it.
pub(super) fn of_address(known: &Known<'_>, server: &ServerConfig) -> Vec<Condition> {
    let name = &server.name;
    let Some(at) = known.addresses.iter().find(|at| at.server == *name) else {
        return Vec::new();
    };
    let is_primary = *name == known.primary.name;
    let place = if is_primary {
        format!("the virtual IP is up at {name}")
    } else {
        format!("the virtual IP is not up at {name}")
    };
    let able = format!("the agent of {name} can move the virtual IP");
    match &at.seen {
        Err(why) => [place, able]
            .map(|name| Condition {
                name,
                answer: Answer::Unknown,
                evidence: why.clone(),
            })
            .into(),
        Ok(facts) => vec![
            Condition {
                name: place,
                answer: match (facts.up, is_primary) {
                    (Answer::Unknown, _) => Answer::Unknown,
                    (up, true) => up,
                    (Answer::Yes, false) => Answer::No,
                    (Answer::No, false) => Answer::Yes,
                },
                evidence: facts.evidence.clone(),
            },
            condition(
                able,
                facts.trouble.is_none(),
                facts
                    .trouble
                    .clone()
                    .unwrap_or_else(|| format!("{} is there", at.address.interface)),
            ),
        ],
    }
}
