//! What the last, unfinished transaction of a log holds: an applier that executed a part of it cannot take back changes
//! of tables without transactions, so they are to be named.

use crate::error::LogError;
use crate::event::EventType;
use crate::event::query::{Query, QueryKind};
use crate::event::table_map::TableMap;
use crate::extent::UnfinishedTail;
use crate::map::{Map, Next};
use crate::position::BinlogPosition;

/// Most tables and statements named.
const LIMIT: usize = 256;
/// Longest text kept of a statement, in bytes.
const TEXT_MAX: usize = 4096;

/// The open transaction at the end of the map.
pub(crate) fn tail(map: &Map) -> Result<Option<UnfinishedTail>, LogError> {
    let Some(last) = map.pieces.last() else {
        return Ok(None);
    };
    let start = match map.open_since() {
        Some(start) => start,
        None if last.after.is_outside() || !last.has_data => return Ok(None),
        // No boundary was seen at all: whatever is held may be a part of one transaction.
        None => match map.ranges().pop() {
            Some(range) => range.from,
            None => return Ok(None),
        },
    };
    let mut tail = UnfinishedTail {
        start: start.clone(),
        end: BinlogPosition::new(last.file.clone(), last.to),
        tables: Vec::new(),
        statements: Vec::new(),
        truncated: false,
    };
    map.walk(map.find(&start)?, &mut |_, event, _| {
        match event.type_code() {
            EventType::TABLE_MAP => {
                if let Some(table) = TableMap::parse(event.body()) {
                    let names = (text(table.database), text(table.table));
                    if !tail.tables.contains(&names) {
                        if tail.tables.len() < LIMIT {
                            tail.tables.push(names)
                        } else {
                            tail.truncated = true
                        }
                    }
                }
            }
            EventType::QUERY => {
                if let Some(query) =
                    Query::parse(event.body()).filter(|query| query.kind() != QueryKind::Begin)
                {
                    push_statement(&mut tail, &query, event.is_whole());
                }
            }
            EventType::EXECUTE_LOAD_QUERY => {
                if let Some(query) = Query::parse_load(event.body()) {
                    push_statement(&mut tail, &query, event.is_whole());
                }
            }
            EventType::MARIADB_QUERY_COMPRESSED => {
                // The text is compressed; the database is not.
                if let Some(query) = Query::parse(event.body()) {
                    push_statement(&mut tail, &Query { text: b"", ..query }, false);
                }
            }
            _ => {}
        }
        Ok(Next::Go)
    })?;
    Ok(Some(tail))
}

fn push_statement(tail: &mut UnfinishedTail, query: &Query<'_>, whole: bool) {
    if tail.statements.len() >= LIMIT {
        tail.truncated = true;
        return;
    }
    let kept = query.text.get(..TEXT_MAX).unwrap_or(query.text);
    tail.truncated |= !whole || kept.len() < query.text.len();
    tail.statements.push((query.database.map(text), text(kept)));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
