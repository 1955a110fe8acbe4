//! Replication control of the local server: channel record, drain, replay, promote, repoint, resume.
