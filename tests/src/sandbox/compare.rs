//! Whether servers hold the same data: tables, their definitions' names and their checksums.

use std::collections::BTreeMap;

use super::error::SandboxError;
use super::server::Server;

/// Checksum of each table, by `db.table`.
pub type Checksums = BTreeMap<String, String>;

/// Checksums of all tables of users.
pub async fn checksums(server: &Server) -> Result<Checksums, SandboxError> {
    let mut session = server.admin().await?;
    let tables = session
        .rows(
            "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables \
             WHERE table_type='BASE TABLE' \
             AND table_schema NOT IN ('mysql','information_schema','performance_schema','sys') ORDER BY 1",
        )
        .await?;
    let mut found = Checksums::new();
    for name in tables.iter().filter_map(|row| row.at(0)) {
        let statement = format!("CHECKSUM TABLE {name} EXTENDED");
        let row = session.row(&statement).await?;
        let checksum = row
            .as_ref()
            .and_then(|row| row.get("Checksum"))
            .ok_or_else(|| SandboxError::Answer {
                server: server.name().to_owned(),
                statement: statement.clone(),
                wanted: "Checksum".to_owned(),
            })?;
        found.insert(name.replace('`', ""), checksum.to_owned());
    }
    Ok(found)
}

/// One line per table that differs between `left` and `right`; empty if all are equal.
pub fn differences(left: &Checksums, right: &Checksums) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    names
        .into_iter()
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| format!("{name}: {:?} and {:?}", left.get(name), right.get(name)))
        .collect()
}

/// All tables of all `servers` are equal to the first one's; else what differs.
pub async fn all_equal(servers: &[&Server]) -> Result<Result<Checksums, String>, SandboxError> {
    let mut first: Option<(&str, Checksums)> = None;
    for server in servers {
        let found = checksums(server).await?;
        match &first {
            None => first = Some((server.name(), found)),
            Some((name, wanted)) => {
                let differing = differences(wanted, &found);
                if !differing.is_empty() {
                    return Ok(Err(format!(
                        "{name} and {}: {}",
                        server.name(),
                        differing.join("; ")
                    )));
                }
            }
        }
    }
    Ok(Ok(first.map(|(_, found)| found).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_table_and_another_checksum_differ() {
        let table = |name: &str, sum: &str| (name.to_owned(), sum.to_owned());
        let left: Checksums = [table("a.t", "1"), table("a.u", "2"), table("a.v", "3")].into();
        let right: Checksums = [table("a.t", "1"), table("a.u", "9")].into();
        assert_eq!(
            differences(&left, &right),
            [
                "a.u: Some(\"2\") and Some(\"9\")",
                "a.v: Some(\"3\") and None"
            ]
        );
        assert!(differences(&left, &left).is_empty());
    }
}
