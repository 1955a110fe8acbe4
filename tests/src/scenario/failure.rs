//! Why a scenario failed: the sandbox could not do its part, or the program did not do what was expected of it.

use std::fmt::{self, Debug, Display};

use crate::sandbox::SandboxError;
use crate::sandbox::error::chain;

/// The end of a scenario that did not hold. Both kinds fail the test; neither skips it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The sandbox could not set the scene.
    #[error("the sandbox failed")]
    Sandbox(#[from] SandboxError),
    /// What was looked at is not as expected.
    #[error("{what}: expected {expected}, found {found}")]
    Unexpected {
        /// What was looked at.
        what: String,
        /// What should have been there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The same, with what the program said.
    #[error("{failure:?}\n{told}")]
    Told {
        /// What failed.
        failure: Box<Failure>,
        /// Exit code, outputs and times.
        told: String,
    },
    /// The program ended without a report.
    #[error("the manager wrote no report\n{told}")]
    NoReport {
        /// Exit code, outputs and times.
        told: String,
    },
}

/// A failed test prints its error with `Debug`; people want to read the sentence and its causes.
impl Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self))
    }
}

/// Fails unless both are equal.
pub fn expect_eq<T: PartialEq + Debug>(
    what: impl Display,
    found: &T,
    expected: &T,
) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::Unexpected {
        what: what.to_string(),
        expected: format!("{expected:?}"),
        found: format!("{found:?}"),
    })
}

/// Fails unless `holds`; `found` is shown then.
pub fn expect(
    holds: bool,
    what: impl Display,
    expected: impl Display,
    found: impl Display,
) -> Result<(), Failure> {
    if holds {
        return Ok(());
    }
    Err(Failure::Unexpected {
        what: what.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    })
}
