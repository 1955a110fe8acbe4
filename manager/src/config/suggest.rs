//! Finds the key that an unknown key was meant to be.

/// What the parser said of a key it does not know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownKey {
    /// The key as written.
    pub(super) key: String,
    /// The keys that exist there.
    pub(super) known: Vec<String>,
}

/// Reads serde's sentence: "unknown field `x`, expected one of `a`, `b` at line 3 column 5".
pub(super) fn unknown_key(message: &str) -> Option<UnknownKey> {
    let (_, rest) = message.split_once("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known = rest
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    Some(UnknownKey {
        key: key.to_owned(),
        known,
    })
}

impl UnknownKey {
    /// The nearest known key, if it is near enough to be meant.
    pub(super) fn suggestion(&self) -> Option<String> {
        let limit = (self.key.chars().count() / 3).max(1);
        self.known
            .iter()
            .map(|k| (distance(&self.key, k), k))
            .filter(|(d, _)| *d <= limit)
            .min()
            .map(|(_, k)| k.clone())
    }
}

/// Edits (insert, delete, replace) from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut above_left = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(&to) {
            let above = *cell;
            *cell = (above_left + usize::from(a != *b))
                .min(above + 1)
                .min(left + 1);
            above_left = above;
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_levenshtein() {
        for (a, b, d) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("canddate", "candidate", 1),
            ("host", "host", 0),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }

    #[test]
    fn the_parsers_sentence_is_understood() {
        let message = "servers[0]: unknown field `canddate`, expected one of `name`, `candidate` at line 4 column 5";
        let unknown = unknown_key(message).unwrap();
        assert_eq!(unknown.key, "canddate");
        assert_eq!(unknown.known, ["name", "candidate"]);
        assert_eq!(unknown.suggestion().as_deref(), Some("candidate"));
        assert_eq!(unknown_key("missing field `name`"), None);
    }

    #[test]
    fn nothing_near_means_no_suggestion() {
        let unknown = UnknownKey {
            key: "repl_user".into(),
            known: vec!["name".into(), "host".into()],
        };
        assert_eq!(unknown.suggestion(), None);
    }
}
