//! The local source: the server side of the replication protocol on loopback, from which the local mysqld replays segments.
