//! A random workload: statements of several sessions, in the order in which they are given, one at a time.
//!
//! The same shape and number always make the same workload. A statement may be refused by the server (a duplicate key, a
//! character that a table's character set lacks): what it leaves in the log is a part of the test. Left out is what could
//! not end equal anywhere: tables without transactions, whose changes may come twice after a cut inside a statement, and
//! with `binlog_format=STATEMENT` what the manual calls unsafe because each server computes another value.

use std::fmt::Write as _;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::shape::{Format, Shape};
use super::values::Values;
use crate::sandbox::ServerKind;

/// Where the files for LOAD DATA are, in statements.
pub const FILES: &str = "@FILES@";
/// Sessions of clients.
pub const SESSIONS: usize = 4;
/// The last session speaks XA and nothing else: beside a prepared transaction it can do nothing.
const XA_SESSION: usize = SESSIONS - 1;
/// Rounds of a workload; each is a transaction, a definition, a change of settings or the like.
const ROUNDS: u32 = 90;

/// One statement of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Number of the session, from 0.
    pub session: usize,
    /// Its text.
    pub text: String,
}

/// Statements, and files that LOAD DATA reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// In this order.
    pub statements: Vec<Statement>,
    /// Name and content.
    pub files: Vec<(String, String)>,
}

/// The workload of the run with this number.
pub fn generate(shape: &Shape, seed: u64) -> Workload {
    let mut writer = Writer {
        rng: StdRng::seed_from_u64(seed),
        shape,
        session: 0,
        tables: Vec::new(),
        made: 0,
        temporary: Vec::new(),
        prepared: None,
        plain_backslash: [false; SESSIONS],
        out: Workload::default(),
    };
    writer.begin();
    for _ in 0..ROUNDS {
        writer.round();
    }
    writer.out
}

struct Writer<'a> {
    rng: StdRng,
    shape: &'a Shape,
    session: usize,
    /// Tables that come and go.
    tables: Vec<String>,
    /// How many things with numbers in their names were made.
    made: u32,
    /// Temporary tables, with their sessions.
    temporary: Vec<(usize, String)>,
    /// The XA transaction that is prepared.
    prepared: Option<String>,
    /// Sessions in which a backslash is a letter like others.
    plain_backslash: [bool; SESSIONS],
    out: Workload,
}

impl Writer<'_> {
    fn say(&mut self, text: impl Into<String>) {
        self.out.statements.push(Statement {
            session: self.session,
            text: text.into(),
        });
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn one_of(&mut self, texts: &[&'static str]) -> &'static str {
        texts.choose(&mut self.rng).copied().unwrap_or_default()
    }

    /// Computed on the primary and not told to replicas when statements are logged.
    fn may_be_unsafe(&self) -> bool {
        self.shape.format != Format::Statement
    }

    fn values(&mut self) -> Values<'_> {
        Values {
            rng: &mut self.rng,
            may_be_unsafe: self.shape.format != Format::Statement,
        }
    }

    fn begin(&mut self) {
        self.say("CREATE TABLE main (id INT AUTO_INCREMENT PRIMARY KEY, n INT, s VARCHAR(300), at DATETIME) ENGINE=InnoDB");
        // Without a counter: when statements are logged, a primary tells no replica what a counter gave to a trigger.
        self.say("CREATE TABLE audit (what VARCHAR(40), n INT, at DATETIME) ENGINE=InnoDB");
        self.say("CREATE TABLE xa (id INT PRIMARY KEY, s VARCHAR(100)) ENGINE=InnoDB");
        self.say("CREATE TABLE parent (id INT PRIMARY KEY, n INT) ENGINE=InnoDB");
        self.say(
            "CREATE TABLE child (id INT AUTO_INCREMENT PRIMARY KEY, parent INT, \
             FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE) ENGINE=InnoDB",
        );
        if self.shape.kind != ServerKind::MySql56 {
            self.say("CREATE TABLE docs (id INT PRIMARY KEY, j JSON) ENGINE=InnoDB");
            for id in 1..=4 {
                let padding = "p".repeat(400);
                self.say(format!(
                    "INSERT INTO docs VALUES ({id}, '{{\"a\": 1, \"b\": [1, 2], \"c\": \"{padding}\"}}')"
                ));
            }
        }
        self.say("CREATE TRIGGER main_in AFTER INSERT ON main FOR EACH ROW INSERT INTO audit (what, n, at) VALUES ('in', NEW.n, NOW())");
        self.say(
            "CREATE TRIGGER main_up BEFORE UPDATE ON main FOR EACH ROW \
             BEGIN SET NEW.s = CONCAT('was ', LEFT(COALESCE(OLD.s, ''), 200)); INSERT INTO audit (what, n) VALUES ('up', OLD.n); END",
        );
        let mixed = if self.may_be_unsafe() {
            "CRC32(UUID())"
        } else {
            "FLOOR(RAND() * 1000)"
        };
        self.say(format!(
            "CREATE FUNCTION f_any(k INT) RETURNS BIGINT NOT DETERMINISTIC NO SQL RETURN k + {mixed}"
        ));
        self.say(
            "CREATE PROCEDURE p_many(IN k INT, IN t VARCHAR(40)) BEGIN DECLARE i INT DEFAULT 0; \
             WHILE i < k DO INSERT INTO main (n, s, at) VALUES (i * FLOOR(RAND() * 100), CONCAT(t, ' ', i), NOW()); SET i = i + 1; END WHILE; \
             UPDATE main SET n = n + k WHERE n < k; END",
        );
        for _ in 0..3 {
            self.create_table();
        }
    }

    fn round(&mut self) {
        self.session = self.rng.random_range(0..XA_SESSION);
        match self.rng.random_range(0..100) {
            0..40 => self.transaction(),
            40..52 => {
                let change = self.change();
                self.say(change);
            }
            52..62 => self.definition(),
            62..70 => self.setting(),
            70..76 => self.distributed(),
            76..82 => self.temporary(),
            82..87 => self.load(),
            87..92 => self.routine(),
            92..95 => self.big(),
            95..98 => self.family(),
            _ => {
                let text = self.one_of(&[
                    "FLUSH BINARY LOGS",
                    "ANALYZE TABLE main",
                    "OPTIMIZE TABLE audit",
                    "FLUSH TABLES",
                ]);
                self.say(text);
            }
        }
    }

    fn transaction(&mut self) {
        let begin = self.one_of(&["BEGIN", "START TRANSACTION", "SET autocommit=0"]);
        self.say(begin);
        for step in 0..self.rng.random_range(1..7) {
            if self.rng.random_bool(0.2) {
                self.say(format!("SAVEPOINT s{step}"));
                let change = self.change();
                self.say(change);
                let end = if self.rng.random_bool(0.6) {
                    format!("ROLLBACK TO SAVEPOINT s{step}")
                } else {
                    format!("RELEASE SAVEPOINT s{step}")
                };
                self.say(end);
            } else {
                let change = self.change();
                self.say(change);
            }
        }
        let end = if self.rng.random_bool(0.85) {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        self.say(end);
        if begin == "SET autocommit=0" {
            self.say("SET autocommit=1");
        }
    }

    /// A statement that changes rows.
    fn change(&mut self) -> String {
        let table = self.some_table();
        let k: u32 = self.rng.random_range(2..9);
        let r = self.rng.random_range(0..k);
        match self.rng.random_range(0..20) {
            0..7 => {
                let rows = self.rng.random_range(1..5);
                let verb = self.one_of(&[
                    "INSERT INTO",
                    "INSERT INTO",
                    "INSERT IGNORE INTO",
                    "REPLACE INTO",
                ]);
                let mut text = format!(
                    "{verb} {table} (n, u, s, b, ts, dt, amount, kind, flags, bits) VALUES "
                );
                for row in 0..rows {
                    let comma = if row == 0 { "" } else { ", " };
                    let row = self.values().row();
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{comma}({row})");
                }
                text
            }
            7..9 => {
                let text = self.values().text();
                format!("INSERT INTO main (n, s, at) VALUES (f_any({r}), {text}, NOW())")
            }
            9..12 => {
                let text = self.values().text();
                format!(
                    "UPDATE {table} SET n = COALESCE(n, 0) + {r}, s = {text} WHERE id % {k} = {r}"
                )
            }
            12 => format!("UPDATE main SET n = n + 1 WHERE id % {k} = {r}"),
            13 => format!("DELETE FROM {table} WHERE id % {k} = {r}"),
            14 => format!("DELETE FROM {table} ORDER BY id LIMIT {r}"),
            15 => {
                let other = self.some_table();
                format!(
                    "INSERT INTO {table} (n, s) SELECT n, LEFT(s, 40) FROM {other} ORDER BY id LIMIT {k}"
                )
            }
            16 => {
                let other = self.some_table();
                format!(
                    "UPDATE {table} a JOIN {other} b ON a.id = b.id SET a.n = b.n WHERE a.id < {k}"
                )
            }
            17 if self.shape.kind != ServerKind::MySql56 => format!(
                "UPDATE docs SET j = JSON_SET(j, '$.a', {r}, '$.b[1]', {k}) WHERE id = {}",
                self.rng.random_range(1..5)
            ),
            18 if self.may_be_unsafe() => {
                format!(
                    "INSERT INTO {table} (u, n, s) VALUES ('once', {r}, UUID()) ON DUPLICATE KEY UPDATE n = n + 1, s = UUID()"
                )
            }
            _ => "INSERT INTO main (n, s) VALUES (@v, LAST_INSERT_ID())".to_owned(),
        }
    }

    fn some_table(&mut self) -> String {
        let names = self.tables.as_slice();
        match names.choose(&mut self.rng) {
            Some(name) => format!("`{name}`"),
            None => "main".to_owned(),
        }
    }

    fn create_table(&mut self) {
        let name = match self.number() {
            odd if odd % 5 == 0 => format!("it's \"t\" {odd}"),
            number => format!("t{number}"),
        };
        let set = self.one_of(&["latin1", "utf8", "utf8mb4", "gbk", "ucs2", "sjis"]);
        self.say(format!(
            "CREATE TABLE `{name}` (id INT AUTO_INCREMENT PRIMARY KEY, n BIGINT, u VARCHAR(60), s VARCHAR(300), b MEDIUMBLOB, \
             ts TIMESTAMP NULL DEFAULT NULL, dt DATETIME(3), amount DECIMAL(12,3), kind ENUM('a','b','c'), flags SET('x','y','z'), \
             bits BIT(9), UNIQUE KEY (u)) ENGINE=InnoDB DEFAULT CHARSET={set}"
        ));
        self.tables.push(name);
    }

    fn definition(&mut self) {
        let table = self.some_table();
        let number = self.number();
        match self.rng.random_range(0..13) {
            0 | 1 => self.create_table(),
            2 if self.tables.len() > 2 => {
                let at = self.rng.random_range(0..self.tables.len());
                let name = self.tables.swap_remove(at);
                self.say(format!("DROP TABLE IF EXISTS `{name}`, `never was`"));
            }
            3 => self.say(format!("/* a comment; with 'quotes\" -- */ ALTER TABLE {table} ADD COLUMN x{number} INT NOT NULL DEFAULT {number}")),
            4 => self.say(format!("ALTER TABLE {table} ADD COLUMN at{number} TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP")),
            5 => self.say(format!("CREATE INDEX i{number} ON {table} (n, amount)")),
            6 => self.say(format!("TRUNCATE TABLE {table}")),
            7 => {
                if let Some(name) = self.tables.pop() {
                    let new = format!("r{number}");
                    self.say(format!("RENAME TABLE `{name}` TO `{new}`"));
                    self.tables.push(new);
                }
            }
            8 => {
                self.say(format!("CREATE TABLE l{number} LIKE {table}"));
                self.tables.push(format!("l{number}"));
            }
            9 => self.say(format!("CREATE OR REPLACE VIEW v{} AS SELECT id, n FROM {table} WHERE n > {number}", number % 3)),
            10 => self.say(format!("ALTER TABLE {table} MODIFY s VARCHAR(350), COMMENT='number {number}'")),
            11 if !self.shape.gtid || self.shape.kind.is_mariadb() => {
                self.say(format!("CREATE TABLE c{number} (PRIMARY KEY (id)) ENGINE=InnoDB SELECT id, n, UPPER(s) AS s FROM main ORDER BY id"));
            }
            _ => {
                self.say(format!("CREATE USER 'u{number}'@'localhost' IDENTIFIED BY 'Secret-{number}'"));
                self.say(format!("GRANT SELECT ON app.* TO 'u{number}'@'localhost'"));
            }
        }
    }

    fn setting(&mut self) {
        let text = match self.rng.random_range(0..9) {
            0 => self.one_of(&[
                "SET NAMES latin1",
                "SET NAMES gbk",
                "SET NAMES utf8",
                "SET NAMES utf8mb4",
            ]),
            1 => self.one_of(&[
                "SET time_zone='+05:30'",
                "SET time_zone='-11:00'",
                "SET time_zone=SYSTEM",
            ]),
            2 => self.one_of(&[
                "SET timestamp=1583020800.123456",
                "SET timestamp=1000000000",
                "SET timestamp=DEFAULT",
            ]),
            3 => self.one_of(&[
                "SET sql_mode=''",
                "SET sql_mode='ANSI'",
                "SET sql_mode='TRADITIONAL'",
                "SET sql_mode='NO_BACKSLASH_ESCAPES'",
            ]),
            4 => self.one_of(&[
                "SET auto_increment_increment=3, auto_increment_offset=2",
                "SET auto_increment_increment=1, auto_increment_offset=1",
            ]),
            5 => self.one_of(&[
                "SET foreign_key_checks=0",
                "SET foreign_key_checks=1",
                "SET unique_checks=0",
                "SET unique_checks=1",
            ]),
            6 => self.one_of(&[
                "SET @v = 42",
                "SET @v = NULL",
                "SET @v = 1.5",
                "SET @v = CONCAT('7', '7')",
            ]),
            7 => self.one_of(&["SET lc_time_names='de_DE'", "SET lc_time_names='en_US'"]),
            _ => self.one_of(&[
                "SET collation_connection=latin1_german2_ci",
                "SET rand_seed1=7, rand_seed2=9",
            ]),
        };
        self.set(text);
    }

    fn set(&mut self, text: &str) {
        if text.contains("sql_mode") {
            self.plain_backslash[self.session] = text.contains("NO_BACKSLASH_ESCAPES");
        }
        self.say(text);
    }

    /// An XA transaction is begun and prepared, or the one that is prepared ends; one may stay prepared at the end.
    fn distributed(&mut self) {
        self.session = XA_SESSION;
        if let Some(name) = self.prepared.take() {
            let end = self.one_of(&["COMMIT", "COMMIT", "ROLLBACK"]);
            self.say(format!("XA {end} {name}"));
            return;
        }
        let number = self.number();
        let name = format!("'x{number}'");
        self.say(format!("XA START {name}"));
        for row in 0..self.rng.random_range(1..4_u32) {
            let id = number * 10 + row;
            self.say(format!("INSERT INTO xa VALUES ({id}, 'in {number}')"));
        }
        self.say(format!("XA END {name}"));
        if self.rng.random_bool(0.3) {
            self.say(format!("XA COMMIT {name} ONE PHASE"));
        } else {
            self.say(format!("XA PREPARE {name}"));
            self.prepared = Some(name);
        }
    }

    fn temporary(&mut self) {
        let own = self
            .temporary
            .iter()
            .position(|(session, _)| *session == self.session);
        let Some(at) = own else {
            let name = format!("tmp{}", self.number());
            self.say(format!(
                "CREATE TEMPORARY TABLE {name} (id INT AUTO_INCREMENT PRIMARY KEY, n BIGINT, s VARCHAR(300)) ENGINE=InnoDB"
            ));
            self.temporary.push((self.session, name));
            return;
        };
        let name = self.temporary[at].1.clone();
        match self.rng.random_range(0..4) {
            0 => self.say(format!(
                "INSERT INTO {name} (n, s) SELECT n, s FROM main ORDER BY id LIMIT 5"
            )),
            1 => self.say(format!(
                "INSERT INTO main (n, s) SELECT n, s FROM {name} ORDER BY id"
            )),
            2 => self.say(format!("UPDATE {name} SET n = n + 1")),
            _ => {
                self.say(format!("DROP TEMPORARY TABLE {name}"));
                self.temporary.swap_remove(at);
            }
        }
    }

    fn load(&mut self) {
        let file = format!("load-{}.txt", self.number());
        let mut content = String::new();
        for _ in 0..self.rng.random_range(1..200) {
            let n: u32 = self.rng.random();
            // Writing to a String cannot fail.
            let _ = writeln!(content, "{n}\tline of {n}");
        }
        self.out.files.push((file.clone(), content));
        // Where statements are logged, the server writes one of its own making that names all separators with backslashes, and
        // a replica reads it under the session's SQL mode: there '\\' is two characters, error 1083 (8.0.15, 9.7.4). LOAD DATA is
        // unsafe as a statement anyhow (manual, "Replication and LOAD DATA").
        if self.plain_backslash[self.session] && self.shape.format != Format::Row {
            self.set("SET sql_mode=''");
        }
        let table = self.some_table();
        let rest = self.one_of(&[
            "",
            " SET amount = n / 1000",
            " SET s = CONCAT(s, '!'), ts = NOW()",
        ]);
        self.say(format!(
            "LOAD DATA INFILE '{FILES}/{file}' INTO TABLE {table} CHARACTER SET latin1 (n, s){rest}"
        ));
    }

    fn routine(&mut self) {
        let number = self.number();
        match self.rng.random_range(0..4) {
            0 | 1 => {
                let rows = self.rng.random_range(1..6);
                self.say(format!("CALL p_many({rows}, 'call {number}')"));
            }
            2 => {
                self.say(format!(
                    "CREATE PROCEDURE p{number}() UPDATE main SET n = {number} WHERE id = {number}"
                ));
                self.say(format!("CALL p{number}()"));
            }
            _ => {
                self.say("DROP TRIGGER IF EXISTS audit_in");
                self.say(format!("CREATE TRIGGER audit_in BEFORE INSERT ON audit FOR EACH ROW SET NEW.what = '{number}'"));
            }
        }
    }

    /// A transaction of some megabytes.
    fn big(&mut self) {
        let table = self.some_table();
        self.say("BEGIN");
        for part in 0..self.rng.random_range(5..20) {
            let size = self.rng.random_range(10_000..150_000);
            let text: char = self.rng.random_range('a'..='z');
            let blob = text.to_string().repeat(size);
            self.say(format!(
                "INSERT INTO {table} (n, b) VALUES ({part}, '{blob}')"
            ));
        }
        self.say("COMMIT");
    }

    /// Foreign keys that cascade.
    fn family(&mut self) {
        let id = self.rng.random_range(1..9);
        match self.rng.random_range(0..4) {
            0 | 1 => {
                self.say(format!("REPLACE INTO parent VALUES ({id}, {id})"));
                self.say(format!("INSERT INTO child (parent) VALUES ({id}), ({id})"));
            }
            2 => self.say(format!("UPDATE parent SET id = id + 20 WHERE id = {id}")),
            _ => self.say(format!("DELETE FROM parent WHERE id % 3 = {}", id % 3)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_number_always_means_the_same_workload() {
        let shape = Shape::of(ServerKind::MySql80, 5);
        assert_eq!(generate(&shape, 5), generate(&shape, 5));
        assert_ne!(generate(&shape, 5), generate(&shape, 6));
    }

    #[test]
    fn twenty_workloads_hold_everything_that_can_be_in_one() {
        let mut found = BTreeSet::new();
        let words = [
            "CREATE TABLE `t",
            "ALTER TABLE",
            "XA PREPARE",
            "XA COMMIT",
            "CREATE TEMPORARY",
            "LOAD DATA",
            "CREATE TRIGGER",
            "CALL p_many",
            "f_any(",
            "SET NAMES gbk",
            "SET time_zone",
            "SAVEPOINT",
            "ROLLBACK TO",
            "UUID()",
            "JSON_SET",
            "FLUSH BINARY LOGS",
            "CREATE USER",
        ];
        for seed in 0..20 {
            let shape = Shape::of(ServerKind::MySql97, seed);
            for statement in generate(&shape, seed).statements {
                found.extend(words.iter().filter(|word| statement.text.contains(**word)));
            }
        }
        assert_eq!(found, words.iter().collect());
    }

    #[test]
    fn statements_that_each_server_computes_for_itself_are_logged_as_rows() {
        for seed in 0..200 {
            let shape = Shape::of(ServerKind::MySql80, seed);
            if shape.format == Format::Statement {
                let bad = generate(&shape, seed);
                assert!(bad.statements.iter().all(|one| {
                    ["UUID", "SYSDATE", "CURRENT_USER"]
                        .iter()
                        .all(|word| !one.text.contains(word))
                }));
            }
        }
    }

    #[test]
    fn no_file_is_loaded_by_a_statement_whose_backslashes_mean_something_else() {
        let mut met = 0;
        for seed in 0..200 {
            let shape = Shape::of(ServerKind::MySql97, seed);
            let mut plain = [false; SESSIONS];
            for Statement { session, text } in generate(&shape, seed).statements {
                if text.starts_with("SET sql_mode") {
                    plain[session] = text.contains("NO_BACKSLASH_ESCAPES");
                } else if text.starts_with("LOAD DATA") {
                    met += usize::from(plain[session]);
                    assert!(!plain[session] || shape.format == Format::Row, "{seed}");
                }
            }
        }
        assert!(met > 0, "rows are logged whatever the SQL mode is");
    }
}
