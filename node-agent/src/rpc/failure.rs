//! From this crate's typed errors to the wire's: the one place that chooses kinds.

use std::io::ErrorKind as IoKind;
use std::path::Path;

use binlog_core::LogError;
use proto::status::AgentError;
use proto::v1::ErrorKind;

use crate::address::AddressError;
use crate::error::chain;
use crate::fence::FenceError;
use crate::guard::GuardError;
use crate::logs::chunks::ReadError;
use crate::logs::keep::KeepError;
use crate::logs::pull::PullError;
use crate::logs::store::StoreError;
use crate::logs::{LogsError, PartError};
use crate::mysqld::process::ProcessError;
use crate::state::durable::DurableError;
use crate::state::epoch::{EpochError, StoredEpoch};
use crate::state::flight::LaneBusy;

/// An error that has a place on the wire.
pub(super) trait Failure: std::error::Error + Sized {
    /// Its form there, without host and server.
    fn on_wire(&self) -> AgentError;
}

/// For `map_err`.
pub(super) fn on_wire<E: Failure>(error: E) -> AgentError {
    error.on_wire()
}

/// An error of this kind with the whole chain as its sentence.
fn plain(kind: ErrorKind, error: &dyn std::error::Error) -> AgentError {
    AgentError::new(kind, chain(error))
}

fn at(path: &Path, offset: Option<u64>) -> impl FnOnce(AgentError) -> AgentError {
    let file = path.display().to_string();
    move |error| error.with_place(file, offset)
}

/// The kind of an I/O failure on a file of ours.
fn io_kind(source: &std::io::Error) -> ErrorKind {
    match source.kind() {
        IoKind::StorageFull | IoKind::QuotaExceeded => ErrorKind::DiskFull,
        _ => ErrorKind::Io,
    }
}

impl Failure for DurableError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::Io { path, source, .. } => at(path, None)(plain(io_kind(source), self)),
            Self::Malformed { path, .. } | Self::NotAFile { path } => {
                at(path, None)(plain(ErrorKind::Io, self))
            }
        }
    }
}

impl Failure for AddressError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::Capabilities(_) => plain(ErrorKind::Unsupported, self),
            Self::Answered { ip, mac, interface } => plain(ErrorKind::Conflict, self).with_found(
                format!("nobody else has {ip}"),
                format!("{mac} on {interface}"),
            ),
            Self::NoInterface(_) | Self::Down(_) | Self::Elsewhere { .. } | Self::Deposed => {
                plain(ErrorKind::Conflict, self)
            }
            Self::Kernel { .. } => plain(ErrorKind::Io, self),
            Self::Store(source) => {
                let mut error = source.on_wire();
                error.message = chain(self);
                error
            }
            Self::Abandoned => plain(ErrorKind::OutcomeUnknown, self),
        }
    }
}

impl Failure for EpochError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::UnknownCluster { .. } => plain(ErrorKind::UnknownServer, self),
            Self::BadField { .. } => plain(ErrorKind::InvalidArgument, self),
            Self::Stale { asked, stored, .. } => {
                with_holder(plain(ErrorKind::StaleEpoch, self), *asked, stored)
            }
            Self::Held { asked, stored } | Self::OfAnother { asked, stored, .. } => {
                with_holder(plain(ErrorKind::Held, self), *asked, stored)
            }
            Self::Unreadable { path, .. } => at(path, None)(plain(ErrorKind::Io, self)),
            Self::Store(source) => {
                let mut error = source.on_wire();
                error.message = chain(self);
                error
            }
        }
    }
}

fn with_holder(error: AgentError, asked: u64, stored: &StoredEpoch) -> AgentError {
    let holder = match (&stored.holder, &stored.last) {
        (Some(holder), _) => format!("{} of {}", holder.operation, holder.manager),
        (None, Some(last)) => format!(
            "nobody any more, last by {} of {}",
            last.operation, last.manager
        ),
        (None, None) => "nobody".to_owned(),
    };
    error
        .with_found(format!("epoch {}", stored.epoch), format!("epoch {asked}"))
        .with_holder(stored.epoch, holder)
}

impl Failure for LaneBusy {
    fn on_wire(&self) -> AgentError {
        plain(ErrorKind::Conflict, self)
    }
}

impl Failure for LogError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::Io {
                action,
                path,
                source,
            } => {
                // What the server wrote and cannot be read is a case of its own; what we write is not.
                let reading = matches!(*action, "open" | "read" | "stat" | "list");
                let kind = match io_kind(source) {
                    ErrorKind::DiskFull => ErrorKind::DiskFull,
                    _ if reading => ErrorKind::LogUnreadable,
                    kind => kind,
                };
                at(path, None)(plain(kind, self))
            }
            Self::Missing { path, .. }
            | Self::NoFiles { basename: path }
            | Self::InnoDb { path }
            | Self::NotABinlog { path, .. } => {
                at(path, None)(plain(ErrorKind::LogUnreadable, self))
            }
            Self::Encrypted { path, offset } => {
                at(path, Some(*offset))(plain(ErrorKind::LogUnreadable, self))
            }
            Self::Corrupt {
                path,
                offset,
                expected,
                found,
            } => at(path, Some(*offset))(AgentError::new(
                ErrorKind::LogCorrupt,
                "the log is corrupt",
            ))
            .with_found(expected, found),
            Self::NotABoundary { position, .. } | Self::InsideTransaction { position, .. } => {
                plain(ErrorKind::NotABoundary, self)
                    .with_place(position.file.as_str(), Some(position.offset))
            }
            Self::NotHeld { position, .. } => plain(ErrorKind::RangeNotHeld, self)
                .with_place(position.file.as_str(), Some(position.offset)),
            Self::Hole { path, offset, .. } => {
                at(path, Some(*offset))(plain(ErrorKind::RangeNotHeld, self))
            }
            Self::OtherWriter { directory, .. } => {
                at(directory, None)(plain(ErrorKind::RangeNotHeld, self))
            }
            Self::NoFormatDescription { .. } => plain(ErrorKind::RangeNotHeld, self),
            Self::BadRange { .. } => plain(ErrorKind::InvalidArgument, self),
            Self::Gap { path, .. } => at(path, None)(plain(ErrorKind::Conflict, self)),
            Self::BadManifest { path, .. } | Self::DigestMismatch { path, .. } => {
                at(path, None)(plain(ErrorKind::DigestMismatch, self))
            }
            Self::BadInfoFile { path, .. } => at(path, None)(plain(ErrorKind::LogUnreadable, self)),
            _ => plain(ErrorKind::Io, self),
        }
    }
}

impl Failure for StoreError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::BadName { .. } => plain(ErrorKind::InvalidArgument, self),
            Self::Unknown { .. } => plain(ErrorKind::UnknownSegment, self),
            Self::OtherCluster { .. } => plain(ErrorKind::NotAuthorised, self),
            Self::DiskFull {
                path,
                needed_bytes,
                free_bytes,
            } => at(path, None)(AgentError::new(
                ErrorKind::DiskFull,
                "no space for the segment",
            ))
            .with_found(
                format!("{needed_bytes} bytes"),
                format!("{free_bytes} free"),
            ),
            Self::BadManifest { path, .. } => {
                at(path, None)(plain(ErrorKind::DigestMismatch, self))
            }
            Self::Durable(source) => source.on_wire(),
        }
    }
}

impl Failure for ReadError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::BeyondEnd { path, offset, .. } => {
                at(path, Some(*offset))(plain(ErrorKind::InvalidArgument, self))
            }
            Self::Short { path, found, .. } => {
                at(path, Some(*found))(plain(ErrorKind::DigestMismatch, self))
            }
            Self::Durable(source) => source.on_wire(),
        }
    }
}

impl Failure for PartError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::Crc { .. } | Self::OutOfPlace { .. } => plain(ErrorKind::DigestMismatch, self),
            Self::Digest {
                path,
                announced,
                found,
            } => at(path, None)(AgentError::new(
                ErrorKind::DigestMismatch,
                "the segment is not the announced one",
            ))
            .with_found(announced, found),
            Self::Durable(source) => source.on_wire(),
        }
    }
}

impl Failure for PullError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::Announcement { .. } | Self::Manifest(_) => {
                plain(ErrorKind::InvalidArgument, self)
            }
            Self::Store(source) => source.on_wire(),
            Self::Part { source, .. } => {
                let mut error = source.on_wire();
                error.message = chain(self);
                error
            }
            // The kind the other agent gave; its sentence is part of ours.
            Self::Refused { source, .. } => plain(source.kind, self),
            Self::Unreachable { .. } => plain(ErrorKind::PeerUnreachable, self),
            Self::NoProgress { .. } | Self::DiskStalled { .. } => {
                plain(ErrorKind::NoProgress, self)
            }
            Self::Busy { .. } => plain(ErrorKind::Conflict, self),
            Self::Abandoned => plain(ErrorKind::Io, self),
        }
    }
}

impl Failure for KeepError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::Index(source) => source.on_wire(),
            Self::BadEntry { index, .. } => at(index, None)(plain(ErrorKind::LogUnreadable, self)),
            Self::Durable(source) => source.on_wire(),
        }
    }
}

impl Failure for ProcessError {
    fn on_wire(&self) -> AgentError {
        plain(ErrorKind::Io, self)
    }
}

impl Failure for GuardError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::Store(source) => {
                let inner = source.on_wire();
                AgentError {
                    message: chain(self),
                    ..inner
                }
            }
            Self::Abandoned => plain(ErrorKind::OutcomeUnknown, self),
            Self::Newer { .. } => plain(ErrorKind::StaleEpoch, self),
        }
    }
}

impl Failure for FenceError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::NoDataDirectory => plain(ErrorKind::Conflict, self),
            Self::Process(source) => source.on_wire(),
            Self::Store(source) => source.on_wire(),
            Self::Abandoned => plain(ErrorKind::OutcomeUnknown, self),
        }
    }
}

impl Failure for LogsError {
    fn on_wire(&self) -> AgentError {
        match self {
            Self::NeverLearnt { .. } => plain(ErrorKind::LogUnreadable, self),
            Self::NoBinaryLog => plain(ErrorKind::Unsupported, self),
            Self::MysqldRunning { pid } => {
                plain(ErrorKind::MysqldRunning, self).with_found("no mysqld", format!("pid {pid}"))
            }
            Self::Log(source) => source.on_wire(),
            Self::Keep(source) => source.on_wire(),
            Self::Store(source) => source.on_wire(),
            Self::Process(source) => source.on_wire(),
        }
    }
}
