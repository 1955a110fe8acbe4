//! The commands on plain files as a DBA runs them: the built binary over synthetic logs and real ones.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod inspect;
mod join;
mod relay;
mod run;
mod save;
