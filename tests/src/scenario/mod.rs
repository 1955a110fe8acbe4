//! What the scenarios share: one form of a cluster, lag as a value, the state at the kill, and what must hold afterwards.
//!
//! A scenario is told in three parts. The *setup* brings real servers into the state its name speaks of and checks that
//! they are in it: a scenario whose setup silently missed its state would prove nothing. Then the primary dies and the
//! program runs as an operator runs it. The *aftermath* is the same for all: every table of every survivor has one
//! checksum, each row that a client saw acknowledged is there, the report's verdict agrees with the client's list, and
//! an exception counts only where the report itself names it.
//!
//! Nothing here asserts by panicking: what is not as expected is a [`Failure`] that says what was looked at, what was
//! expected and what was found.

pub mod aftermath;
pub mod before;
pub mod ended;
pub mod failure;
pub mod files;
pub mod form;
pub mod gtids;
pub mod half;
pub mod lag;
pub mod ledger;
pub mod renumber;
pub mod scene;
pub mod torn;

pub use aftermath::Expected;
pub use ended::Ended;
pub use failure::{Failure, expect, expect_eq};
pub use form::Form;
pub use lag::{Act, Applier, Lag, Plan, Played};
pub use ledger::Ledger;
pub use scene::Scene;
