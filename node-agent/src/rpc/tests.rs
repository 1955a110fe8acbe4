//! The gRPC surface over real sockets: roles and clusters with real certificates, epochs, fencing, transfers.

mod changes;
mod fixture;
mod flights;
mod logs;
mod relay;
mod roles;
mod transfer;
