//! One row of an answer, read by column name.
//!
//! Column names differ in case between versions, so names match without regard to case. Values come from the text
//! protocol; a missing column or a value of another kind is an error that names it, never a default.

use mysql_async::Value;

use super::SqlError;

/// A row: column names and values.
#[derive(Debug, Clone)]
pub struct Row {
    server: String,
    what: String,
    cells: Vec<(String, Option<String>)>,
}

impl Row {
    /// A row from the driver's.
    pub(super) fn from_driver(server: &str, what: &str, row: mysql_async::Row) -> Self {
        let names: Vec<String> = row
            .columns_ref()
            .iter()
            .map(|column| column.name_str().into_owned())
            .collect();
        let cells = names
            .into_iter()
            .zip(row.unwrap())
            .map(|(name, value)| (name, text_of(value)))
            .collect();
        Self {
            server: server.to_owned(),
            what: what.to_owned(),
            cells,
        }
    }

    /// A row made of literals, for tests of what reads rows.
    #[cfg(test)]
    pub(crate) fn of(cells: &[(&str, Option<&str>)]) -> Self {
        Self {
            server: "test".to_owned(),
            what: "test".to_owned(),
            cells: cells
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
                .collect(),
        }
    }

    /// True if there is such a column.
    pub fn has(&self, column: &str) -> bool {
        self.find(column).is_some()
    }

    /// Text of a column; `None` for NULL; an error if there is no such column.
    pub fn optional_text(&self, column: &str) -> Result<Option<&str>, SqlError> {
        self.find(column)
            .map(Option::as_deref)
            .ok_or_else(|| self.unexpected(column, "a column of this name", "none"))
    }

    /// Text of a column that is never NULL.
    pub fn text(&self, column: &str) -> Result<&str, SqlError> {
        self.optional_text(column)?
            .ok_or_else(|| self.unexpected(column, "a text", "NULL"))
    }

    /// Text of a column that some versions lack or leave NULL: empty then.
    pub fn text_or_empty(&self, column: &str) -> &str {
        self.find(column).and_then(Option::as_deref).unwrap_or("")
    }

    /// Number in a column that is never NULL.
    pub fn number<T: std::str::FromStr>(&self, column: &str) -> Result<T, SqlError> {
        let text = self.text(column)?;
        text.parse()
            .map_err(|_| self.unexpected(column, "a number", text))
    }

    /// Number in a column that may be NULL, empty, or absent.
    pub fn number_if_any<T: std::str::FromStr>(&self, column: &str) -> Result<Option<T>, SqlError> {
        match self.text_or_empty(column) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| self.unexpected(column, "a number", text)),
        }
    }

    /// `Yes`/`ON`/`1` or `No`/`OFF`/`0`, in any case.
    pub fn flag(&self, column: &str) -> Result<bool, SqlError> {
        let text = self.text(column)?;
        flag_of(text).ok_or_else(|| self.unexpected(column, "a yes or no", text))
    }

    /// Text of the first column; NULL and an empty row are `None`.
    pub fn first(&self) -> Option<&str> {
        self.cells.first().and_then(|(_, value)| value.as_deref())
    }

    /// All columns in order.
    pub fn cells(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.cells
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// An error that says this column of this answer is not as documented.
    pub fn unexpected(&self, column: &str, expected: &'static str, found: &str) -> SqlError {
        SqlError::UnexpectedAnswer {
            server: self.server.clone(),
            what: self.what.clone(),
            column: column.to_owned(),
            expected,
            found: found.chars().take(120).collect(),
        }
    }

    fn find(&self, column: &str) -> Option<&Option<String>> {
        self.cells
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(column))
            .map(|(_, value)| value)
    }
}

/// A truth value as servers print it; `None` if it is none.
pub fn flag_of(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "1" | "true" => Some(true),
        "no" | "off" | "0" | "false" | "" => Some(false),
        _ => None,
    }
}

/// Text protocol values are bytes; numbers appear only if the driver converted them.
fn text_of(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        other @ (Value::Date(..) | Value::Time(..)) => Some(other.as_sql(true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_in_any_case_and_nothing_is_made_up() {
        let row = Row::of(&[
            ("Slave_IO_Running", Some("Connecting")),
            ("Slave_SQL_Running", Some("Yes")),
            ("Exec_Master_Log_Pos", Some("1308")),
            ("Seconds_Behind_Master", None),
            ("Port", Some("many")),
        ]);
        assert!(row.flag("slave_sql_running").unwrap());
        assert_eq!(row.number::<u64>("exec_master_log_pos").unwrap(), 1308);
        assert_eq!(row.optional_text("Seconds_Behind_Master").unwrap(), None);
        assert_eq!(
            row.number_if_any::<u64>("Seconds_Behind_Master").unwrap(),
            None
        );
        assert_eq!(row.number_if_any::<u64>("Not_There").unwrap(), None);
        assert_eq!(row.text_or_empty("Not_There"), "");
        for error in [
            row.flag("Slave_IO_Running").map(|_| ()).unwrap_err(),
            row.text("Seconds_Behind_Master").map(|_| ()).unwrap_err(),
            row.text("Not_There").map(|_| ()).unwrap_err(),
            row.number::<u16>("Port").map(|_| ()).unwrap_err(),
        ] {
            assert!(
                matches!(error, SqlError::UnexpectedAnswer { .. }),
                "{error}"
            );
        }
    }
}
