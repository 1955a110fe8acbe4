//! What must be so at each binlog server: its directory can be read, and it follows the primary. Pure.

use binlog_core::BinlogPosition;

use super::{Condition, Known, condition};
use crate::daemon::binlog_servers::SeenCopies;
use crate::facts::Answer;

pub(super) fn conditions(known: &Known<'_>) -> Vec<Condition> {
    let each = known.binlog_servers.iter().flat_map(|seen| {
        let readable = match &seen.newest {
            Ok((newest, directory)) => condition(
                name_of_readable(seen),
                true,
                format!("{directory} holds {newest}"),
            ),
            Err(why) => condition(name_of_readable(seen), false, why.clone()),
        };
        [readable, follows(known, seen)]
    });
    each.collect()
}

/// One sentence for each, without anything that moves all the time.
pub(super) fn sentences(known: &Known<'_>) -> Vec<String> {
    let each = known.binlog_servers.iter().map(|seen| {
        let follows = follows(known, seen);
        match (&seen.newest, follows.answer) {
            (Ok(_), Answer::Yes) => format!("{} follows {}", seen.server, known.primary.name),
            (Err(why), _) => format!("{}: {why}", seen.server),
            (Ok(_), _) => format!("{}: {}", seen.server, follows.evidence),
        }
    });
    each.collect()
}

fn name_of_readable(seen: &SeenCopies) -> String {
    format!("the copies of binlog server {} can be read", seen.server)
}

fn follows(known: &Known<'_>, seen: &SeenCopies) -> Condition {
    let name = format!(
        "binlog server {} follows {}",
        seen.server, known.primary.name
    );
    let (answer, evidence) = match (&seen.newest, written(known)) {
        (Err(_), _) => (Answer::Unknown, "its copies cannot be read".to_owned()),
        (Ok(_), None) => (
            Answer::Unknown,
            "how far the primary has come is not known".to_owned(),
        ),
        (Ok((newest, _)), Some(written)) if newest >= written => (
            Answer::Yes,
            format!("it holds what the primary had written before, up to {written}"),
        ),
        (Ok((newest, _)), Some(written)) => (
            Answer::No,
            format!(
                "it holds up to {newest}, and the primary had written up to {written} seconds before"
            ),
        ),
    };
    Condition {
        name,
        answer,
        evidence,
    }
}

fn written<'a>(known: &'a Known<'_>) -> Option<&'a BinlogPosition> {
    let primary = super::facts(known, &known.primary.name)?;
    primary.binlog.as_ref()?.position.as_ref()
}

/// The binlog server whose copies go furthest, and how far.
pub(super) fn furthest<'a>(known: &'a Known<'_>) -> Option<(&'a str, &'a BinlogPosition)> {
    let readable = known.binlog_servers.iter().filter_map(|seen| {
        let (newest, _) = seen.newest.as_ref().ok()?;
        Some((seen.server.as_str(), newest))
    });
    readable.max_by(|(_, one), (_, other)| one.cmp(other))
}
