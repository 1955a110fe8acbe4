//! What a server holds, as far as replication is to carry it: what two servers with the same history have in common.

use std::collections::BTreeMap;

use crate::sandbox::compare;
use crate::sandbox::{Client, Record, SandboxError, Server};

/// Descriptions by name: tables with checksums and definitions, routines, triggers, views, accounts, prepared XA
/// transactions, executed GTIDs.
pub type State = BTreeMap<String, String>;

/// The queries whose rows make a state; the first column of each is the name.
const QUERIES: &[(&str, &str)] = &[
    (
        "routine",
        "SELECT routine_name, CONCAT_WS('|', routine_type, routine_definition, sql_mode, definer, character_set_client, collation_connection) \
         FROM information_schema.routines WHERE routine_schema='app'",
    ),
    (
        "trigger",
        "SELECT trigger_name, CONCAT_WS('|', event_manipulation, event_object_table, action_timing, action_statement, sql_mode, definer) \
         FROM information_schema.triggers WHERE trigger_schema='app'",
    ),
    (
        "view",
        "SELECT table_name, CONCAT_WS('|', view_definition, definer, security_type) FROM information_schema.views WHERE table_schema='app'",
    ),
    (
        "account",
        "SELECT CONCAT(user, '@', host), '' FROM mysql.user",
    ),
];

/// The table with a JSON column. It is compared as text: CHECKSUM TABLE takes the bytes that a document is stored in, and a
/// document that was changed in place is stored in others than one that was written whole.
const DOCUMENTS: &str = "rows of app.docs";

/// Reads everything.
pub async fn read(server: &Server, gtid: bool) -> Result<State, SandboxError> {
    let mut state = State::new();
    for (table, checksum) in compare::checksums(server).await? {
        state.insert(format!("rows of {table}"), checksum);
    }
    let mut session = server.admin().await?;
    if state.contains_key(DOCUMENTS) {
        let documents = session
            .rows("SELECT id, j FROM app.docs ORDER BY id")
            .await?;
        state.insert(DOCUMENTS.to_owned(), format!("{documents:?}"));
    }
    for (kind, query) in QUERIES {
        for row in session.rows(query).await? {
            let name = row.at(0).unwrap_or_default();
            let told = row.at(1).unwrap_or("NULL");
            state.insert(format!("{kind} {name}"), told.to_owned());
        }
    }
    definitions(&mut session, &mut state).await?;
    let prepared = session.rows("XA RECOVER").await?;
    let mut prepared: Vec<&str> = prepared.iter().filter_map(|row| row.get("data")).collect();
    prepared.sort_unstable();
    state.insert("prepared XA transactions".to_owned(), prepared.join(" "));
    if gtid {
        let query = if server.kind().is_mariadb() {
            "SELECT @@GLOBAL.gtid_binlog_pos"
        } else {
            "SELECT @@GLOBAL.gtid_executed"
        };
        let executed = session.value(query).await?.replace('\n', "");
        state.insert("executed GTIDs".to_owned(), executed);
    }
    Ok(state)
}

/// Rows at most, and letters of each, that are told of a table.
const TOLD: (usize, usize) = (4, 400);

/// The rows of a table (`app.NAME`) that only one of two servers has.
pub async fn rows_apart(
    table: &str,
    wanted: &Server,
    found: &Server,
) -> Result<Vec<String>, SandboxError> {
    let name = table.strip_prefix("app.").unwrap_or(table);
    let query = format!("SELECT * FROM app.`{name}`");
    let of = |records: Vec<Record>| -> Vec<String> {
        records.iter().map(|row| format!("{row:?}")).collect()
    };
    let rows = [
        of(wanted.rows(&query).await?),
        of(found.rows(&query).await?),
    ];
    let mut told = Vec::new();
    for (server, own, others) in [(wanted, &rows[0], &rows[1]), (found, &rows[1], &rows[0])] {
        let alone = own.iter().filter(|row| !others.contains(row));
        told.extend(alone.take(TOLD.0).map(|row| {
            let row: String = row.chars().take(TOLD.1).collect();
            format!("only {} has in {table}: {row}", server.name())
        }));
    }
    Ok(told)
}

async fn definitions(session: &mut Client, state: &mut State) -> Result<(), SandboxError> {
    let tables = session
        .rows(
            "SELECT table_name FROM information_schema.tables WHERE table_schema='app' AND table_type='BASE TABLE'",
        )
        .await?;
    for name in tables.iter().filter_map(|row| row.at(0)) {
        let row = session
            .row(&format!("SHOW CREATE TABLE app.`{name}`"))
            .await?;
        let text = row.as_ref().and_then(|row| row.at(1)).unwrap_or_default();
        state.insert(format!("definition of {name}"), without_counter(text));
    }
    Ok(())
}

/// A counter is no part of what was replicated: a transaction that is rolled back leaves it advanced.
fn without_counter(definition: &str) -> String {
    match definition.split_once(" AUTO_INCREMENT=") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{after}")
        }
        None => definition.to_owned(),
    }
}

/// One line per difference; empty if there is none.
pub fn differences(wanted: &State, found: &State) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    names
        .into_iter()
        .filter(|name| wanted.get(*name) != found.get(*name))
        .map(|name| {
            format!(
                "{name}: wanted {:?}, found {:?}",
                wanted.get(name),
                found.get(name)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_left_out_and_nothing_else() {
        let with = "CREATE TABLE `t` (\n `id` int\n) ENGINE=InnoDB AUTO_INCREMENT=17 DEFAULT CHARSET=latin1";
        let without = "CREATE TABLE `t` (\n `id` int\n) ENGINE=InnoDB DEFAULT CHARSET=latin1";
        assert_eq!(without_counter(with), without);
        assert_eq!(without_counter(without), without);
    }

    #[test]
    fn what_only_one_has_is_a_difference() {
        let state = |names: &[&str]| -> State {
            names
                .iter()
                .map(|name| ((*name).to_owned(), "x".to_owned()))
                .collect()
        };
        assert!(differences(&state(&["a"]), &state(&["a"])).is_empty());
        assert_eq!(differences(&state(&["a"]), &state(&["b"])).len(), 2);
    }
}
