//! The gRPC surface over real sockets: roles and clusters with real certificates, epochs, fencing, transfers.

mod binlog_server;
mod changes;
mod fixture;
mod flights;
mod logs;
mod relay;
mod roles;
mod transfer;
