//! QUERY_EVENT: a statement, and the words that open and close transactions.
//!
//! Body: thread id 4, execution time 4, length of the default database 1, error code 2, length of the status variables
//! 2, the status variables, the database and a NUL, the text to the end.

use super::bytes::Cursor;

/// A statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// Default database, if any.
    pub database: Option<&'a [u8]>,
    /// The text (cut off if the event was not read whole).
    pub text: &'a [u8],
}

/// What a statement means for the bounds of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// `BEGIN`, `XA START ..`.
    Begin,
    /// `COMMIT`, `ROLLBACK` (not `ROLLBACK TO ..`), `XA COMMIT ..`, `XA ROLLBACK ..`.
    End,
    /// `CREATE TABLE .. START TRANSACTION` (8.0.21): the rows of the same transaction follow.
    Opening,
    /// Anything else.
    Statement,
}

impl<'a> Query<'a> {
    /// Reads a body.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        cursor.skip(8)?;
        let database_len = usize::from(cursor.u8()?);
        cursor.skip(2)?;
        let status_len = usize::from(cursor.u16()?);
        cursor.skip(status_len)?;
        let database = cursor.take(database_len)?;
        cursor.skip(1)?;
        Some(Self {
            database: (!database.is_empty()).then_some(database),
            text: cursor.rest(),
        })
    }

    /// Reads the body of an EXECUTE_LOAD_QUERY_EVENT: as a statement, with 13 bytes more before the status variables.
    #[must_use]
    pub fn parse_load(body: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        cursor.skip(8)?;
        let database_len = usize::from(cursor.u8()?);
        cursor.skip(2)?;
        let status_len = usize::from(cursor.u16()?);
        cursor.skip(13)?;
        cursor.skip(status_len)?;
        let database = cursor.take(database_len)?;
        cursor.skip(1)?;
        Some(Self {
            database: (!database.is_empty()).then_some(database),
            text: cursor.rest(),
        })
    }

    /// What the statement means.
    #[must_use]
    pub fn kind(&self) -> QueryKind {
        kind(self.text)
    }
}

/// As the server's own `starts_group` and `ends_group`; case does not matter here.
fn kind(text: &[u8]) -> QueryKind {
    let text = text.trim_ascii();
    // Of all statements hardly any begins with one of these letters.
    if !matches!(
        text.first(),
        Some(b'B' | b'b' | b'C' | b'c' | b'R' | b'r' | b'X' | b'x')
    ) {
        return QueryKind::Statement;
    }
    let starts = |word: &str| {
        text.get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
    };
    let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    if is("BEGIN") || starts("XA START") || starts("XA BEGIN") {
        QueryKind::Begin
    } else if is("COMMIT") || is("ROLLBACK") || starts("XA COMMIT") || starts("XA ROLLBACK") {
        QueryKind::End
    } else if starts("ROLLBACK") {
        // `ROLLBACK TO SAVEPOINT` stays inside; `ROLLBACK /* .. */` ends.
        let tail = text
            .get("ROLLBACK".len()..)
            .unwrap_or_default()
            .trim_ascii_start();
        let to = tail.get(..2).is_some_and(|w| w.eq_ignore_ascii_case(b"TO"))
            || tail
                .get(..4)
                .is_some_and(|w| w.eq_ignore_ascii_case(b"WORK"));
        if to {
            QueryKind::Statement
        } else {
            QueryKind::End
        }
    } else if starts("CREATE")
        && text.len() >= 17
        && text
            .get(text.len() - 17..)
            .is_some_and(|t| t.eq_ignore_ascii_case(b"START TRANSACTION"))
    {
        QueryKind::Opening
    } else {
        QueryKind::Statement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_bound_transactions() {
        for text in ["BEGIN", "begin", "XA START X'31',X'',1"] {
            assert_eq!(kind(text.as_bytes()), QueryKind::Begin, "{text}");
        }
        for text in [
            "COMMIT",
            "ROLLBACK",
            "rollback",
            "XA COMMIT X'31',X'',1",
            "XA ROLLBACK X'31',X'',1",
            "ROLLBACK /* x */",
        ] {
            assert_eq!(kind(text.as_bytes()), QueryKind::End, "{text}");
        }
        assert_eq!(
            kind(b"CREATE TABLE `t` (a int) START TRANSACTION"),
            QueryKind::Opening
        );
        for text in [
            "ROLLBACK TO `s`",
            "rollback work to savepoint s",
            "SAVEPOINT `s`",
            "XA END X'31'",
            "BEGIN WORK x",
            "INSERT INTO t VALUES('COMMIT')",
            "",
            "COMMITX",
        ] {
            assert_eq!(kind(text.as_bytes()), QueryKind::Statement, "{text}");
        }
    }

    #[test]
    fn database_and_text_are_found() {
        let mut body = vec![0; 8];
        body.extend_from_slice(&[6, 0, 0, 3, 0, 9, 9, 9]);
        body.extend_from_slice(b"sbtest\0insert into b values(1)");
        let query = Query::parse(&body).unwrap();
        assert_eq!(query.database, Some(&b"sbtest"[..]));
        assert_eq!(query.text, b"insert into b values(1)");
        for len in 0..23 {
            assert_eq!(Query::parse(&body[..len]), None, "{len}");
        }
    }
}
