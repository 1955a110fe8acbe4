//! The local mysqld: its process, its connection, its SQL dialect, and what it says about itself.
//!
//! Guarantees: every await on the server has a deadline; a connection whose statement did not finish is dropped and
//! never used again; what a lost answer did is reported as unknown, never as failed; no password and no statement
//! text reaches a log or an error.

pub mod account;
pub mod configured;
pub mod deadline;
pub mod dialect;
pub mod endpoint;
pub mod error;
pub mod observe;
mod option_files;
pub mod paths;
pub mod process;
pub mod row;
pub mod semi_sync;
pub mod session;
pub mod status;
pub mod variables;
pub mod version;
pub mod wire;

pub use deadline::Deadline;
pub use dialect::Dialect;
pub use endpoint::Endpoint;
pub use error::SqlError;
pub use observe::{Alive, Identity, Observed, observe};
pub use paths::Remembered;
pub use row::Row;
pub use session::Session;
pub use status::{Receiver, ReplicaStatus};
pub use version::{Flavor, ServerVersion};
