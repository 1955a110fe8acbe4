//! Random values, as they stand in statements: constants in all character sets, and functions whose values the primary
//! tells its replicas in one way or another.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Where they come from.
pub(super) struct Values<'a> {
    /// Chance.
    pub(super) rng: &'a mut StdRng,
    /// Also functions that the primary does not tell its replicas when statements are logged.
    pub(super) may_be_unsafe: bool,
}

impl Values<'_> {
    fn one_of(&mut self, texts: &[&str]) -> String {
        texts.choose(self.rng).copied().unwrap_or("NULL").to_owned()
    }

    /// One row of `(n, u, s, b, ts, dt, amount, kind, flags, bits)`.
    pub(super) fn row(&mut self) -> String {
        [
            self.whole(),
            self.unique(),
            self.text(),
            self.one_of(&[
                "NULL",
                "x'00ff27225c0a'",
                "REPEAT('blob', 300)",
                "MD5(RAND())",
            ]),
            self.one_of(&[
                "NULL",
                "NOW()",
                "'2020-02-29 12:00:00'",
                "FROM_UNIXTIME(1600000000)",
            ]),
            self.time(),
            self.one_of(&["NULL", "12.345", "-0.001", "RAND() * 100"]),
            self.one_of(&["'a'", "'b'", "'c'", "NULL"]),
            self.one_of(&["'x,z'", "''", "'y'", "NULL"]),
            self.one_of(&["b'101010101'", "0", "NULL"]),
        ]
        .join(", ")
    }

    fn whole(&mut self) -> String {
        let plain: i32 = self.rng.random_range(-1000..1000);
        match self.rng.random_range(0..8) {
            0 => "FLOOR(RAND() * 1000)".to_owned(),
            1 => "@v".to_owned(),
            2 => format!("f_any({plain})"),
            3 => "LAST_INSERT_ID()".to_owned(),
            4 => "CONNECTION_ID()".to_owned(),
            _ => plain.to_string(),
        }
    }

    fn unique(&mut self) -> String {
        let plain: u32 = self.rng.random_range(0..100_000);
        match self.rng.random_range(0..6) {
            0 | 1 => "NULL".to_owned(),
            2 if self.may_be_unsafe => "UUID()".to_owned(),
            _ => format!("'u{plain}'"),
        }
    }

    fn time(&mut self) -> String {
        if self.may_be_unsafe && self.rng.random_bool(0.3) {
            return "SYSDATE(3)".to_owned();
        }
        self.one_of(&[
            "NULL",
            "NOW(3)",
            "UTC_TIMESTAMP(3)",
            "'1999-12-31 23:59:59.999'",
            "CURRENT_DATE",
        ])
    }

    /// A text; not every table can hold each of them.
    pub(super) fn text(&mut self) -> String {
        let number: u32 = self.rng.random_range(0..1000);
        match self.rng.random_range(0..14) {
            // Bytes of UTF-8, whatever the session says that it sends.
            0 => "'caf\u{e9}, \u{4e2d}\u{6587}'".to_owned(),
            1 => "_latin1 x'e4f6fc'".to_owned(),
            2 => "_utf8mb4 x'f09f9880'".to_owned(),
            // Characters whose second byte is a backslash.
            3 => "_sjis x'835c'".to_owned(),
            4 => "_gbk x'd65c'".to_owned(),
            5 => "DATE_FORMAT(NOW(), '%M %W')".to_owned(),
            // A replica's applier is another user.
            6 if self.may_be_unsafe => "CONCAT_WS(' ', CURRENT_USER(), DATABASE(), @v)".to_owned(),
            6 => "CONCAT_WS(' ', DATABASE(), @v)".to_owned(),
            7 => "'it''s a ''quote''; -- and no comment'".to_owned(),
            8 if self.may_be_unsafe => "CONCAT(UUID(), ' ', USER())".to_owned(),
            _ => format!("'text {number}'"),
        }
    }
}
