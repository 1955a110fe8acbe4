//! The little SQL that replicas speak to their source, parsed into values.
//!
//! It covers `SELECT` of variables and simple calls, `SHOW VARIABLES LIKE`, `SET`, and `KILL`, whatever the names,
//! case and spacing, so that the vocabulary of one version is not a list of literal strings. What it does not
//! cover is [`Statement::Other`], which is refused. Arbitrary text is parsed without a panic.

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// `SELECT a, b`: expressions with their text, which names the column.
    Select(Vec<(String, Expression)>),
    /// `SHOW [GLOBAL|SESSION] VARIABLES [LIKE 'pattern']`.
    ShowVariables {
        /// The pattern; `None` is all.
        like: Option<String>,
    },
    /// `SHOW [GLOBAL|SESSION] STATUS [LIKE 'pattern']`.
    ShowStatus,
    /// `SET a = b, c = d`.
    Set(Vec<Assignment>),
    /// `KILL [QUERY|CONNECTION] n`.
    Kill,
    /// Anything else.
    Other,
}

/// One assignment of a `SET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Assignment {
    /// `@name = value`; the name in lower case.
    User {
        /// Name without `@`.
        name: String,
        /// Value.
        value: Expression,
    },
    /// A session setting (`SET NAMES`, `SET SESSION wait_timeout = 1`): accepted, without effect here.
    Session,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// Text or number.
    Literal(String),
    /// `NULL`.
    Null,
    /// `@name`, in lower case.
    UserVariable(String),
    /// `@@[scope.]name`, in lower case.
    SystemVariable(String),
    /// `name(arguments)`, name in lower case, arguments literal.
    Call {
        /// Function name.
        name: String,
        /// Arguments as text.
        arguments: Vec<String>,
    },
    /// Something this server does not know: its first word.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Number(String),
    Text(String),
    /// `@name`
    User(String),
    /// `@@name` or `@@scope.name`
    System(String),
    Symbol(char),
}

/// Parses one statement.
pub(super) fn parse(text: &str) -> Statement {
    let Some(tokens) = tokenize(text) else {
        return Statement::Other;
    };
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
    };
    parser.statement().unwrap_or(Statement::Other)
}

fn tokenize(text: &str) -> Option<Vec<(Token, String)>> {
    let mut rest = text.trim_end_matches([';', '\0', ' ', '\n', '\t', '\r']);
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return Some(tokens);
        };
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let name_end = |s: &str| s.find(|c: char| !is_name(c)).unwrap_or(s.len());
        let (token, length) = match first {
            '/' if rest.starts_with("/*") => {
                rest = rest.get(rest.find("*/")?.checked_add(2)?..)?;
                continue;
            }
            '\'' | '"' | '`' => {
                let (value, length) = quoted(rest, first)?;
                let token = if first == '`' {
                    Token::Word(value)
                } else {
                    Token::Text(value)
                };
                (token, length)
            }
            '@' => {
                let system = rest.starts_with("@@");
                let name = rest.trim_start_matches('@');
                let marks = rest.len() - name.len();
                let mut length = name_end(name);
                if system && name.get(length..)?.starts_with('.') {
                    length = length
                        .checked_add(1)?
                        .checked_add(name_end(name.get(length + 1..)?))?;
                }
                let name = name.get(..length)?.to_ascii_lowercase();
                let token = match (system, marks) {
                    (true, 2) => Token::System(name),
                    (false, 1) => Token::User(name),
                    _ => return None,
                };
                (token, marks + length)
            }
            c if c.is_ascii_digit() => {
                let length = rest
                    .find(|c: char| !(c.is_ascii_digit() || c == '.'))
                    .unwrap_or(rest.len());
                (Token::Number(rest.get(..length)?.to_owned()), length)
            }
            c if is_name(c) => {
                let length = name_end(rest);
                (Token::Word(rest.get(..length)?.to_owned()), length)
            }
            ':' if rest.starts_with(":=") => (Token::Symbol('='), 2),
            c => (Token::Symbol(c), c.len_utf8()),
        };
        let (source, later) = rest.split_at_checked(length)?;
        tokens.push((token, source.to_owned()));
        rest = later;
    }
}

/// A quoted string at the start of `text`: its value and its length with both quotes.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if quote != '`' => {
                let (_, escaped) = characters.next()?;
                value.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '0' => '\0',
                    other => other,
                });
            }
            c if c == quote => {
                if characters.peek().is_some_and(|(_, next)| *next == quote) {
                    characters.next();
                    value.push(quote);
                } else {
                    return Some((value, at + quote.len_utf8()));
                }
            }
            other => value.push(other),
        }
    }
    None
}

struct Parser<'a> {
    tokens: &'a [(Token, String)],
    at: usize,
}

impl Parser<'_> {
    fn statement(&mut self) -> Option<Statement> {
        if self.word("select") {
            return self.select();
        }
        if self.word("show") {
            let _scope = self.word("global") || self.word("session");
            if self.word("variables") {
                let like = if self.word("like") {
                    Some(self.text()?)
                } else {
                    None
                };
                return self.done().then_some(Statement::ShowVariables { like });
            }
            return self.word("status").then_some(Statement::ShowStatus);
        }
        if self.word("set") {
            return self.set();
        }
        if self.word("kill") {
            let _what = self.word("query") || self.word("connection");
            self.number()?;
            return self.done().then_some(Statement::Kill);
        }
        None
    }

    fn select(&mut self) -> Option<Statement> {
        let mut items = Vec::new();
        loop {
            let start = self.at;
            let mut value = self.expression()?;
            if !matches!(self.peek(), None | Some(Token::Symbol(','))) && !self.limit() {
                // Operators, FROM, and whatever else: an expression this server does not know.
                value = Expression::Unknown(self.text_between(start, self.tokens.len()));
                self.at = self.tokens.len();
            }
            items.push((self.text_between(start, self.at), value));
            if self.limit() {
                return Some(Statement::Select(items));
            }
            if !self.symbol(',') {
                return self.done().then_some(Statement::Select(items));
            }
        }
    }

    /// Whether `LIMIT n` and nothing else is left.
    fn limit(&self) -> bool {
        matches!(
            self.tokens.get(self.at..),
            Some([(Token::Word(word), _), (Token::Number(_), _)]) if word.eq_ignore_ascii_case("limit")
        )
    }

    fn set(&mut self) -> Option<Statement> {
        if self.word("names") || self.word("character") {
            return Some(Statement::Set(vec![Assignment::Session]));
        }
        let mut assignments = Vec::new();
        loop {
            let assignment = match self.next()? {
                Token::User(name) => {
                    let name = name.clone();
                    self.equals()?;
                    let value = self.expression()?;
                    Assignment::User { name, value }
                }
                Token::System(_) => {
                    self.equals()?;
                    self.expression()?;
                    Assignment::Session
                }
                Token::Word(_) => {
                    if matches!(self.peek(), Some(Token::Word(_))) {
                        self.next();
                    }
                    self.equals()?;
                    self.expression()?;
                    Assignment::Session
                }
                _ => return None,
            };
            assignments.push(assignment);
            if !self.symbol(',') {
                return self.done().then_some(Statement::Set(assignments));
            }
        }
    }

    fn expression(&mut self) -> Option<Expression> {
        let negative = self.symbol('-');
        Some(match self.next()? {
            Token::Number(number) if negative => Expression::Literal(format!("-{number}")),
            _ if negative => return None,
            Token::Number(value) | Token::Text(value) => Expression::Literal(value.clone()),
            Token::User(name) => Expression::UserVariable(name.clone()),
            Token::System(name) => Expression::SystemVariable(bare_name(name).to_owned()),
            Token::Word(word) => {
                let name = word.to_ascii_lowercase();
                if self.symbol('(') {
                    self.call(name)?
                } else if name == "null" {
                    Expression::Null
                } else {
                    Expression::Unknown(name)
                }
            }
            Token::Symbol(_) => return None,
        })
    }

    fn call(&mut self, name: String) -> Option<Expression> {
        let mut arguments = Vec::new();
        if !self.symbol(')') {
            loop {
                match self.next()? {
                    Token::Number(value) | Token::Text(value) => arguments.push(value.clone()),
                    _ => return None,
                }
                if self.symbol(')') {
                    break;
                }
                if !self.symbol(',') {
                    return None;
                }
            }
        }
        Some(Expression::Call { name, arguments })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Option<&Token> {
        let token = self.tokens.get(self.at).map(|(token, _)| token)?;
        self.at += 1;
        Some(token)
    }

    fn word(&mut self, expected: &str) -> bool {
        let found =
            matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(expected));
        self.at += usize::from(found);
        found
    }

    fn symbol(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(expected));
        self.at += usize::from(found);
        found
    }

    fn equals(&mut self) -> Option<()> {
        self.symbol('=').then_some(())
    }

    fn text(&mut self) -> Option<String> {
        match self.next()? {
            Token::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        matches!(self.next()?, Token::Number(_)).then_some(())
    }

    fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The statement's own words of a range of tokens.
    fn text_between(&self, start: usize, end: usize) -> String {
        let words = self.tokens.get(start..end).unwrap_or_default();
        words.iter().map(|(_, source)| source.as_str()).collect()
    }
}

/// A system variable without its scope.
fn bare_name(name: &str) -> &str {
    ["global.", "session.", "local."]
        .iter()
        .find_map(|scope| name.strip_prefix(scope))
        .unwrap_or(name)
}

/// SQL's LIKE, ignoring case: `%` any text, `_` one character, `\` takes the next literally.
pub(super) fn like(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    // The last `%` seen, to return to: no recursion, whatever the pattern.
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some('%'), _) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            (Some('_'), Some(_)) => Some(1),
            (Some('\\'), Some(found)) if pattern.get(p + 1) == Some(found) => Some(2),
            (Some(wanted), Some(found)) if wanted == found => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                p = after;
                t = from + 1;
                retry = Some((after, from + 1));
            }
            (None, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(name: &str, value: Expression) -> Assignment {
        Assignment::User {
            name: name.to_owned(),
            value,
        }
    }

    #[test]
    fn statements_of_replicas_are_understood() {
        let literal = |text: &str| Expression::Literal(text.to_owned());
        let cases = [
            (
                "SELECT UNIX_TIMESTAMP()",
                Statement::Select(vec![(
                    "UNIX_TIMESTAMP()".to_owned(),
                    Expression::Call {
                        name: "unix_timestamp".to_owned(),
                        arguments: vec![],
                    },
                )]),
            ),
            (
                "SHOW VARIABLES LIKE 'SERVER_ID'",
                Statement::ShowVariables {
                    like: Some("SERVER_ID".to_owned()),
                },
            ),
            (
                "SET @master_heartbeat_period= 1799999979520",
                Statement::Set(vec![user(
                    "master_heartbeat_period",
                    literal("1799999979520"),
                )]),
            ),
            (
                "SET @master_heartbeat_period = 30000001024, @source_heartbeat_period = 30000001024",
                Statement::Set(vec![
                    user("master_heartbeat_period", literal("30000001024")),
                    user("source_heartbeat_period", literal("30000001024")),
                ]),
            ),
            (
                "SET @master_binlog_checksum= @@global.binlog_checksum",
                Statement::Set(vec![user(
                    "master_binlog_checksum",
                    Expression::SystemVariable("binlog_checksum".to_owned()),
                )]),
            ),
            (
                "SELECT @source_binlog_checksum",
                Statement::Select(vec![(
                    "@source_binlog_checksum".to_owned(),
                    Expression::UserVariable("source_binlog_checksum".to_owned()),
                )]),
            ),
            (
                "SELECT @@GLOBAL.GTID_MODE",
                Statement::Select(vec![(
                    "@@GLOBAL.GTID_MODE".to_owned(),
                    Expression::SystemVariable("gtid_mode".to_owned()),
                )]),
            ),
            (
                "SELECT binlog_gtid_pos('mysql-bin.000001',120)",
                Statement::Select(vec![(
                    "binlog_gtid_pos('mysql-bin.000001',120)".to_owned(),
                    Expression::Call {
                        name: "binlog_gtid_pos".to_owned(),
                        arguments: vec!["mysql-bin.000001".to_owned(), "120".to_owned()],
                    },
                )]),
            ),
            ("KILL 99", Statement::Kill),
            ("kill query 7;", Statement::Kill),
            (
                "SET NAMES utf8mb4",
                Statement::Set(vec![Assignment::Session]),
            ),
            (
                "set session wait_timeout = 100",
                Statement::Set(vec![Assignment::Session]),
            ),
            ("INSERT INTO t VALUES (1)", Statement::Other),
            ("", Statement::Other),
            ("SELECT", Statement::Other),
            ("SET @a", Statement::Other),
            ("SELECT 'unfinished", Statement::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn selects_beyond_the_vocabulary_are_kept_as_unknown() {
        for text in [
            "SELECT 1 + 1",
            "SELECT a FROM mysql.user",
            "SELECT user",
            "SELECT @@x = 'y'",
        ] {
            let Statement::Select(items) = parse(text) else {
                panic!("{text} is a select");
            };
            assert!(
                matches!(items.last(), Some((_, Expression::Unknown(_)))),
                "{text}: {items:?}"
            );
        }
        assert_eq!(
            parse("select @@version_comment limit 1"),
            Statement::Select(vec![(
                "@@version_comment".to_owned(),
                Expression::SystemVariable("version_comment".to_owned())
            )])
        );
    }

    #[test]
    fn like_matches_as_in_sql() {
        for (pattern, text, expected) in [
            ("SERVER_ID", "server_id", true),
            ("SERVER_ID", "serverXid", true),
            ("server\\_id", "serverXid", false),
            ("server\\_id", "server_id", true),
            ("%", "", true),
            ("rpl%enabled", "rpl_semi_sync_master_enabled", true),
            ("%a%b%", "xxaxxcxx", false),
            ("", "x", false),
            ("x_", "x", false),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses(text in ".{0,200}") {
            parse(&text);
        }

        #[test]
        fn any_sql_like_text_parses(text in "(SELECT|SET|SHOW|KILL|@@?[a-z.]*|'[^']{0,3}'?|`|\\(|\\)|,|=|:=|-|[0-9.]+|LIKE|/\\*|\\*/| ){0,20}") {
            parse(&text);
        }

        #[test]
        fn like_agrees_with_a_naive_matcher(pattern in "[ab%_]{0,7}", text in "[ab]{0,7}") {
            fn naive(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, None) => true,
                    (Some((b'%', rest)), _) => naive(rest, text) || text.split_first().is_some_and(|(_, later)| naive(pattern, later)),
                    (Some((b'_', rest)), Some((_, later))) => naive(rest, later),
                    (Some((p, rest)), Some((t, later))) => p == t && naive(rest, later),
                    _ => false,
                }
            }
            prop_assert_eq!(like(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
