//! Scenarios on real servers, one binary so that they are linked once.

// Test code: a panic is how an assertion fails.
#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod binlog_servers;
mod configured;
mod customer;
mod dead_host;
mod delayed;
mod differential;
mod domains;
mod encrypted;
mod errant;
mod filtered;
mod gtid_algebra;
mod hooks;
mod leased;
mod lines;
mod local_source;
mod logins;
mod mixed;
mod of_record;
mod partitions;
mod refusals;
mod replay;
mod repointed;
mod semi_sync;
mod support;
mod table;
mod tools;
mod watch;
mod watched;
mod ways;
