//! Names from the wire that become file names.

use super::epoch::EpochError;

/// Longest accepted name in bytes; leaves room for suffixes in a file name of 255.
const LONGEST: usize = 200;

/// Whether `name` may be a file name of ours: letters, digits, `.`, `_`, `-`, no dot first, so neither hidden nor a
/// way out of the folder.
pub fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Refuses a field that [`is_safe`] refuses.
pub(super) fn check(field: &'static str, name: &str) -> Result<(), EpochError> {
    if is_safe(name) {
        return Ok(());
    }
    Err(EpochError::BadField {
        field,
        expected: "1 to 200 letters, digits, '.', '_' or '-', no dot first",
        // Bounded: it comes from the wire and goes into logs.
        found: name.chars().take(80).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_become_file_names() {
        for good in [
            "a",
            "tail-mysql-bin.000001-880",
            "diff-db1_3306-b.1-4",
            "A.b_c-1",
        ] {
            assert!(is_safe(good), "{good}");
        }
        let long = "a".repeat(201);
        for bad in [
            "", ".", "..", "../x", "a/b", "/a", ".hidden", "a b", "a\0b", "a\nb", "a:b", "ä", &long,
        ] {
            assert!(!is_safe(bad), "{bad}");
        }
    }
}
