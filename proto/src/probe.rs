//! What a replica's host sees of another server, as values and their conversions; see [`crate::convert`] for the rules.
//!
//! Guarantee: every answer of a port is one of [`PortState`], and those that are signs of life say so themselves.

use std::time::Duration;

use binlog_core::position::BinlogPosition;

use crate::convert::{ConvertError, convert, millis, name, optional};
use crate::v1;

use v1::probed_port::State;

/// Longest time a probe may take.
pub const DEADLINE_MAX: Duration = Duration::from_secs(30);

/// A validated `ProbeServerRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeOrder {
    /// Cluster of both servers.
    pub cluster: String,
    /// The agent's own server.
    pub server: String,
    /// Host of the server to be probed.
    pub host: String,
    /// Its MySQL port, not 0.
    pub port: u16,
    /// How long the call may take.
    pub deadline: Duration,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The port.
    pub port: Port,
    /// What the receiver of the agent's own server says, or why that is not known.
    pub receiver: Result<Receiver, String>,
}

/// What a port answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The answer.
    pub state: PortState,
    /// How long it took.
    pub took: Duration,
}

/// What a MySQL port answered to a connection on which nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortState {
    /// A handshake packet.
    Handshake {
        /// Version the server names.
        version: String,
    },
    /// An error packet: the server lives.
    ErrorPacket {
        /// Its number.
        errno: u16,
        /// Its text.
        text: String,
    },
    /// Refused: the host lives, nobody listens.
    Refused,
    /// Nothing within the limit.
    NoAnswer {
        /// A connection was made at least.
        connected: bool,
    },
    /// The network or the name service says that it cannot be reached.
    Unreachable {
        /// What it says.
        text: String,
    },
    /// It closed the connection, or answered with something else.
    NotMysql {
        /// What it did.
        text: String,
    },
}

/// What a receiver (I/O thread) says of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// State.
    pub state: v1::ReceiverState,
    /// Source it is configured for.
    pub source_host: String,
    /// Its port.
    pub source_port: u16,
    /// Last error, 0 if none.
    pub errno: u32,
    /// Its text.
    pub error: String,
    /// For how long neither an event nor a heartbeat came, where the server tells.
    pub silent: Option<Duration>,
    /// End of what was received; `None` before the first event.
    pub read: Option<BinlogPosition>,
}

impl PortState {
    /// True if a mysqld answered, with whatever.
    pub fn is_sign_of_life(&self) -> bool {
        matches!(self, Self::Handshake { .. } | Self::ErrorPacket { .. })
    }
}

fn port(number: u32, field: &'static str) -> Result<u16, ConvertError> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| ConvertError::new(field, format!("{number} is no port")))
}

impl TryFrom<v1::ProbeServerRequest> for ProbeOrder {
    type Error = ConvertError;

    fn try_from(r: v1::ProbeServerRequest) -> Result<Self, ConvertError> {
        let deadline = Duration::from_millis(r.deadline_ms.into());
        if deadline.is_zero() || deadline > DEADLINE_MAX {
            return Err(ConvertError::new(
                "ProbeServerRequest.deadline_ms",
                format!(
                    "{} is not between 1 and {}",
                    r.deadline_ms,
                    DEADLINE_MAX.as_millis()
                ),
            ));
        }
        // A name or an address; whatever else stands there would only be told to the resolver.
        let host = name(r.host, "ProbeServerRequest.host")?;
        let allowed =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'%');
        if host.len() > 255 || !host.bytes().all(allowed) {
            return Err(ConvertError::new(
                "ProbeServerRequest.host",
                format!("{host:?} is neither a host name nor an address"),
            ));
        }
        Ok(Self {
            cluster: name(r.cluster, "ProbeServerRequest.cluster")?,
            server: name(r.server, "ProbeServerRequest.server")?,
            host,
            port: port(r.port, "ProbeServerRequest.port")?,
            deadline,
        })
    }
}

impl From<&ProbeOrder> for v1::ProbeServerRequest {
    fn from(o: &ProbeOrder) -> Self {
        Self {
            cluster: o.cluster.clone(),
            server: o.server.clone(),
            host: o.host.clone(),
            port: o.port.into(),
            deadline_ms: u32::try_from(o.deadline.as_millis())
                .unwrap_or(u32::MAX)
                .max(1),
        }
    }
}

impl TryFrom<v1::ProbeServerResponse> for Probed {
    type Error = ConvertError;

    fn try_from(r: v1::ProbeServerResponse) -> Result<Self, ConvertError> {
        let receiver = match r.receiver {
            Some(receiver) => Ok(Receiver::try_from(receiver)?),
            None => Err(name(
                r.receiver_error,
                "ProbeServerResponse.receiver_error",
            )?),
        };
        Ok(Self {
            port: convert(r.port, "ProbeServerResponse.port")?,
            receiver,
        })
    }
}

impl From<&Probed> for v1::ProbeServerResponse {
    fn from(p: &Probed) -> Self {
        let (receiver, receiver_error) = match &p.receiver {
            Ok(receiver) => (Some(receiver.into()), String::new()),
            Err(reason) => (None, reason.clone()),
        };
        Self {
            port: Some((&p.port).into()),
            receiver,
            receiver_error,
        }
    }
}

impl TryFrom<v1::ProbedPort> for Port {
    type Error = ConvertError;

    fn try_from(p: v1::ProbedPort) -> Result<Self, ConvertError> {
        let state = match p.state() {
            State::Unspecified => return Err(ConvertError::new("ProbedPort.state", "unspecified")),
            State::Handshake => PortState::Handshake { version: p.text },
            State::ErrorPacket => PortState::ErrorPacket {
                errno: u16::try_from(p.errno)
                    .map_err(|_| ConvertError::new("ProbedPort.errno", p.errno.to_string()))?,
                text: p.text,
            },
            State::Refused => PortState::Refused,
            State::NoAnswer => PortState::NoAnswer {
                connected: p.connected,
            },
            State::Unreachable => PortState::Unreachable { text: p.text },
            State::NotMysql => PortState::NotMysql { text: p.text },
        };
        Ok(Self {
            state,
            took: Duration::from_micros(p.took_us),
        })
    }
}

impl From<&Port> for v1::ProbedPort {
    fn from(p: &Port) -> Self {
        let mut wire = Self {
            took_us: u64::try_from(p.took.as_micros()).unwrap_or(u64::MAX),
            ..Self::default()
        };
        let (state, text, connected) = match &p.state {
            PortState::Handshake { version } => (State::Handshake, version.as_str(), true),
            PortState::ErrorPacket { errno, text } => {
                wire.errno = (*errno).into();
                (State::ErrorPacket, text.as_str(), true)
            }
            PortState::Refused => (State::Refused, "", false),
            PortState::NoAnswer { connected } => (State::NoAnswer, "", *connected),
            PortState::Unreachable { text } => (State::Unreachable, text.as_str(), false),
            PortState::NotMysql { text } => (State::NotMysql, text.as_str(), true),
        };
        wire.set_state(state);
        wire.text = text.to_owned();
        wire.connected = connected;
        wire
    }
}

impl TryFrom<v1::ProbedReceiver> for Receiver {
    type Error = ConvertError;

    fn try_from(r: v1::ProbedReceiver) -> Result<Self, ConvertError> {
        let state = r.state();
        if state == v1::ReceiverState::Unspecified {
            return Err(ConvertError::new("ProbedReceiver.state", "unspecified"));
        }
        Ok(Self {
            state,
            source_host: r.source_host,
            source_port: port(r.source_port, "ProbedReceiver.source_port")?,
            errno: r.errno,
            error: r.error,
            silent: r.silent_ms.map(Duration::from_millis),
            read: optional(r.read)?,
        })
    }
}

impl From<&Receiver> for v1::ProbedReceiver {
    fn from(r: &Receiver) -> Self {
        Self {
            state: r.state.into(),
            source_host: r.source_host.clone(),
            source_port: r.source_port.into(),
            errno: r.errno,
            error: r.error.clone(),
            silent_ms: r.silent.map(millis),
            read: r.read.as_ref().map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> v1::ProbeServerRequest {
        v1::ProbeServerRequest {
            cluster: "app1".into(),
            server: "db2:3306".into(),
            host: "fe80::1%eth0".into(),
            port: 3306,
            deadline_ms: 500,
        }
    }

    #[test]
    fn an_order_round_trips_and_every_bad_field_is_named() {
        let value = ProbeOrder::try_from(order()).unwrap();
        assert_eq!(v1::ProbeServerRequest::from(&value), order());
        type Spoil = fn(&mut v1::ProbeServerRequest);
        let cases: [(&str, Spoil); 9] = [
            ("cluster", |r| r.cluster.clear()),
            ("server", |r| r.server.clear()),
            ("host", |r| r.host.clear()),
            ("host", |r| r.host = "db1\nSITE".into()),
            ("host", |r| r.host = "a".repeat(256)),
            ("port", |r| r.port = 0),
            ("port", |r| r.port = 65_536),
            ("deadline_ms", |r| r.deadline_ms = 0),
            ("deadline_ms", |r| r.deadline_ms = 30_001),
        ];
        for (field, spoil) in cases {
            let mut wire = order();
            spoil(&mut wire);
            let error = ProbeOrder::try_from(wire).unwrap_err();
            assert!(error.field.ends_with(field), "{error}");
        }
    }

    #[test]
    fn every_answer_survives_the_wire() {
        let states = [
            PortState::Handshake {
                version: "5.6.24-log".into(),
            },
            PortState::ErrorPacket {
                errno: 1040,
                text: "Too many connections".into(),
            },
            PortState::Refused,
            PortState::NoAnswer { connected: true },
            PortState::NoAnswer { connected: false },
            PortState::Unreachable {
                text: "No route to host".into(),
            },
            PortState::NotMysql {
                text: "closed".into(),
            },
        ];
        for state in states {
            let probed = Probed {
                port: Port {
                    state,
                    took: Duration::from_micros(731),
                },
                receiver: Ok(Receiver {
                    state: v1::ReceiverState::Connecting,
                    source_host: "db1".into(),
                    source_port: 3306,
                    errno: 2003,
                    error: "cannot connect".into(),
                    silent: Some(Duration::from_millis(1500)),
                    read: Some(BinlogPosition::new(
                        "mysql-bin.000001".parse().unwrap(),
                        452,
                    )),
                }),
            };
            let wire = v1::ProbeServerResponse::from(&probed);
            assert_eq!(Probed::try_from(wire).unwrap(), probed);
        }
        let without = Probed {
            port: Port {
                state: PortState::Refused,
                took: Duration::ZERO,
            },
            receiver: Err("no replica".into()),
        };
        let wire = v1::ProbeServerResponse::from(&without);
        assert_eq!(Probed::try_from(wire.clone()).unwrap(), without);
        let silent = v1::ProbeServerResponse {
            receiver_error: String::new(),
            ..wire
        };
        assert!(Probed::try_from(silent).is_err());
    }
}
