//! Replication control of the local server: stop the receiver, replay segments, promote, repoint, undo.
//!
//! Each act first reads the facts and then does what is still missing, so it may be repeated after any interruption:
//!
//! - **Nothing of a channel is lost.** Before the first statement that overwrites settings of the channel (host,
//!   account, TLS, delay, GTID mode) or of the server, [`channel::ChannelRecord`] holds them on disk; it goes away only
//!   when they are restored.
//! - **Where a replay starts is exact**: with both threads stopped at what the server executed, read while the applier stands
//!   still; beside a running applier ([`way`]) at what it has received, or by its GTIDs. What is executed is never
//!   replayed.
//! - **An applier that stopped with an error is left alone**, whoever asks.
//! - **No wait lasts longer than its caller's limit on lack of progress**; nothing limits how long progress may take.
//! - **Never RESET MASTER**, and no CHANGE before the relay logs it would delete are kept aside.
//!
//! What is not done here: who may call (epochs: `rpc`), and one call at a time per server, which the caller ensures.

pub mod apply;
mod change;
pub mod channel;
pub mod credentials;
mod deferred;
mod drain;
pub mod error;
mod executed;
pub mod facts;
mod globals;
mod halt;
pub mod local;
pub mod promote;
pub mod receiver;
pub mod relay;
mod replay;
pub mod repoint;
pub mod resume;
mod revive;
mod serve;
mod settle;
mod unblock;
mod watch;
pub mod way;

pub use apply::{ApplyOutcome, ApplyPhase, ApplyRequest, ApplyStatus, apply};
pub use channel::{ChannelRecord, Phase, observed_as_original, unfinished_replay};
pub use deferred::make_durable;
pub use error::ReplicationError;
pub use facts::{ChannelFacts, complete};
pub use local::{Local, ProtectRelayLogs};
pub use promote::{Promoted, Waits, make_writable, promote};
pub use receiver::{ReceiverStopped, stop_receiver};
pub use repoint::{RepointRequest, Repointed, repoint};
pub use resume::{Threads, resume, undo};
pub use way::{Choice, Way};
