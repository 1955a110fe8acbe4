//! binlog-core
