//! TABLE_MAP_EVENT: names of a table that row events change. Column types are not read.

use super::bytes::Cursor;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableMap<'a> {
    /// Number the row events refer to.
    pub table_id: u64,
    /// Database.
    pub database: &'a [u8],
    /// Table.
    pub table: &'a [u8],
}

impl<'a> TableMap<'a> {
    /// Reads a body: table id 6, flags 2, database length 1, name and NUL, table length 1, name and NUL.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        let table_id = cursor.u48()?;
        cursor.skip(2)?;
        let len = usize::from(cursor.u8()?);
        let database = cursor.take(len)?;
        cursor.skip(1)?;
        let len = usize::from(cursor.u8()?);
        let table = cursor.take(len)?;
        cursor.skip(1)?;
        Some(Self {
            table_id,
            database,
            table,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        let body = b"\x07\0\0\0\0\0\x01\0\x06sbtest\0\x01b\0\x02rest";
        let map = TableMap::parse(body).unwrap();
        assert_eq!(
            (map.table_id, map.database, map.table),
            (7, &b"sbtest"[..], &b"b"[..])
        );
        for len in 0..19 {
            assert_eq!(TableMap::parse(&body[..len]), None, "{len}");
        }
    }
}
