//! The account that the agent uses, where a server asks more of it than older ones did.
//!
//! MySQL from 8.0.16 on (manual, "Account Categories"): only a session with SYSTEM_USER may end one that has it, and the applier's
//! threads count as such (error 1095 otherwise). An account that was made for an older server and upgraded with it lacks that, and
//! it would show only in the middle of a failover.

use std::time::Duration;

use super::session::quote;
use super::{Session, SqlError};

/// The privilege.
pub const SYSTEM_USER: &str = "SYSTEM_USER";

/// An account and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As in GRANT: `'user'@'host'`.
    pub name: String,
    /// Privileges that it needs and has not.
    pub missing: Vec<&'static str>,
}

/// Looks the session's own account up; `None` where the server asks for nothing special. Roles count as far as they are active.
///
/// # Errors
/// Those of a statement.
pub async fn read(session: &mut Session, limit: Duration) -> Result<Option<Account>, SqlError> {
    if !session.version().is_mysql_from(8, 0, 16) {
        return Ok(None);
    }
    let current = session
        .query_value("SELECT CURRENT_USER()", limit)
        .await?
        .unwrap_or_default();
    // For the session's own account this shows what its active roles give, too.
    let grants = session.query_rows("SHOW GRANTS", limit).await?;
    let has = grants
        .iter()
        .filter_map(|row| row.first())
        .any(|grant| gives_everywhere(grant, SYSTEM_USER));
    Ok(Some(Account {
        name: in_quotes(&current),
        missing: if has { vec![] } else { vec![SYSTEM_USER] },
    }))
}

/// This line of SHOW GRANTS gives the privilege on everything.
fn gives_everywhere(grant: &str, privilege: &str) -> bool {
    grant
        .strip_prefix("GRANT ")
        .and_then(|rest| rest.split_once(" ON *.* TO "))
        .is_some_and(|(privileges, _)| {
            privileges
                .split(',')
                .any(|one| one.trim().eq_ignore_ascii_case(privilege))
        })
}

/// `user@host` as in statements. A user's name may hold an `@`, a host's cannot.
fn in_quotes(current: &str) -> String {
    let (user, host) = current.rsplit_once('@').unwrap_or((current, "%"));
    format!("{}@{}", quote(user), quote(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_privilege_on_everything_counts() {
        for (grant, expected) in [
            (
                "GRANT CONNECTION_ADMIN,SYSTEM_USER ON *.* TO `mha_agent`@`localhost`",
                true,
            ),
            (
                "GRANT SYSTEM_USER ON *.* TO `mha_agent`@`localhost` WITH GRANT OPTION",
                true,
            ),
            (
                "GRANT SELECT, SUPER ON *.* TO `SYSTEM_USER`@`localhost`",
                false,
            ),
            (
                "GRANT SELECT ON `SYSTEM_USER`.* TO `mha_agent`@`localhost`",
                false,
            ),
            ("GRANT `SYSTEM_USER`@`%` TO `mha_agent`@`localhost`", false),
            ("REVOKE SYSTEM_USER ON *.* TO `a`@`b`", false),
        ] {
            assert_eq!(gives_everywhere(grant, SYSTEM_USER), expected, "{grant}");
        }
    }

    #[test]
    fn accounts_are_quoted_for_statements() {
        for (current, expected) in [
            ("mha_agent@localhost", "'mha_agent'@'localhost'"),
            ("a@b@10.0.0.%", "'a@b'@'10.0.0.%'"),
            ("it's@%", r"'it\'s'@'%'"),
        ] {
            assert_eq!(in_quotes(current), expected);
        }
    }
}
