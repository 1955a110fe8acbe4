//! Another server's MySQL port, seen from this host: a connection is made, the server's first packet is read, nothing is sent.
//!
//! Guarantees: no byte ever leaves on the connection; the deadline covers name service, connection and packet; at most
//! [`MOST_BYTES`] of an answer are read.
//!
//! A living server counts each probe as a broken handshake of this host (`max_connect_errors`, 100 in a row by default, then
//! error 1129): callers ask on suspicion, not all the time.

use std::io::ErrorKind;
use std::time::Duration;

use proto::probe::{Port, PortState};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// A handshake or an error message is much shorter.
const MOST_BYTES: usize = 1024;
/// Length and number of a packet.
const HEADER: usize = 4;

/// Probes within `limit`.
pub async fn probe(host: &str, port: u16, limit: Duration) -> Port {
    let began = Instant::now();
    let state = look(host, port, began + limit).await;
    Port {
        state,
        took: began.elapsed(),
    }
}

async fn look(host: &str, port: u16, end: Instant) -> PortState {
    let mut stream = match timeout_at(end, TcpStream::connect((host, port))).await {
        Err(_) => return PortState::NoAnswer { connected: false },
        Ok(Err(error)) => {
            return match error.kind() {
                ErrorKind::ConnectionRefused => PortState::Refused,
                ErrorKind::TimedOut => PortState::NoAnswer { connected: false },
                _ => PortState::Unreachable {
                    text: error.to_string(),
                },
            };
        }
        Ok(Ok(stream)) => stream,
    };
    match timeout_at(end, first_packet(&mut stream)).await {
        Err(_) => PortState::NoAnswer { connected: true },
        Ok(Err(text)) => PortState::NotMysql { text },
        Ok(Ok(payload)) => greeting(&payload),
    }
}

/// The payload of the first packet, or what came instead.
async fn first_packet(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut header = [0_u8; HEADER];
    stream
        .read_exact(&mut header)
        .await
        .map_err(|error| format!("no packet: {error}"))?;
    // Payload length, 3 bytes, little endian; then the packet's number.
    let length =
        usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
    if length == 0 || length > MOST_BYTES {
        return Err(format!("a first packet of {length} bytes"));
    }
    let mut payload = vec![0_u8; length];
    stream
        .read_exact(&mut payload)
        .await
        .map_err(|error| format!("a part of a packet: {error}"))?;
    Ok(payload)
}

/// What a server's first packet says.
fn greeting(payload: &[u8]) -> PortState {
    match payload {
        // Protocol version 10, then the server's version, ended by a zero.
        [10, rest @ ..] => match rest.iter().position(|byte| *byte == 0) {
            Some(end) if end > 0 => PortState::Handshake {
                version: printable(&rest[..end]),
            },
            _ => PortState::NotMysql {
                text: "a handshake without a version".to_owned(),
            },
        },
        // ERR: error number, little endian; before the handshake without `#` and the SQL state, but some send them.
        [0xff, low, high, message @ ..] => {
            let message = match message {
                [b'#', _, _, _, _, _, text @ ..] => text,
                text => text,
            };
            PortState::ErrorPacket {
                errno: u16::from_le_bytes([*low, *high]),
                text: printable(message),
            }
        }
        [first, ..] => PortState::NotMysql {
            text: format!("a first packet that begins with {first:#04x}"),
        },
        [] => PortState::NotMysql {
            text: "an empty packet".to_owned(),
        },
    }
}

/// Text of a stranger, fit for a log line.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .take(200)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn first_packets_are_told_apart() {
        let cases: [(&[u8], PortState); 8] = [
            (
                b"\x0a5.6.24-log\0\x01\0\0\0",
                PortState::Handshake {
                    version: "5.6.24-log".into(),
                },
            ),
            (
                b"\xff\x10\x04Too many connections",
                PortState::ErrorPacket {
                    errno: 1040,
                    text: "Too many connections".into(),
                },
            ),
            (
                b"\xff\x69\x04#HY000Host 'h' is blocked",
                PortState::ErrorPacket {
                    errno: 1129,
                    text: "Host 'h' is blocked".into(),
                },
            ),
            (
                b"\xff\x10\x04",
                PortState::ErrorPacket {
                    errno: 1040,
                    text: String::new(),
                },
            ),
            (
                b"\x0a\0",
                PortState::NotMysql {
                    text: "a handshake without a version".into(),
                },
            ),
            (
                b"\x0a5.6",
                PortState::NotMysql {
                    text: "a handshake without a version".into(),
                },
            ),
            (
                b"\xff\x10",
                PortState::NotMysql {
                    text: "a first packet that begins with 0xff".into(),
                },
            ),
            (
                b"SSH-2.0",
                PortState::NotMysql {
                    text: "a first packet that begins with 0x53".into(),
                },
            ),
        ];
        for (payload, expected) in cases {
            assert_eq!(greeting(payload), expected);
        }
        assert_eq!(printable(b"a\nb\x1b[31m"), "a?b?[31m");
    }

    /// A port that does as told to each connection, and returns what it received.
    async fn port_that(
        sends: &'static [u8],
        then_closes: bool,
    ) -> (u16, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(sends).await.unwrap();
            if then_closes {
                stream.shutdown().await.unwrap();
            }
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            received
        });
        (port, serving)
    }

    #[tokio::test]
    async fn nothing_is_sent_and_the_deadline_holds() {
        let long = Duration::from_secs(60);
        // Enough to connect, whatever else the machine does.
        let short = Duration::from_secs(1);
        let handshake = PortState::Handshake {
            version: "8.0".into(),
        };
        let cases: [(&'static [u8], bool, Duration, Option<PortState>); 5] = [
            (b"\x05\0\0\0\x0a8.0\0", false, long, Some(handshake)),
            (
                b"",
                false,
                short,
                Some(PortState::NoAnswer { connected: true }),
            ),
            (
                b"\x05\0\0\0\x0a8",
                false,
                short,
                Some(PortState::NoAnswer { connected: true }),
            ),
            (b"\x05\0\0\0\x0a8", true, long, None),
            (b"\xff\xff\xff\0", false, long, None),
        ];
        for (sends, closes, limit, expected) in cases {
            let (port, serving) = port_that(sends, closes).await;
            let seen = probe("127.0.0.1", port, limit).await;
            match expected {
                Some(expected) => assert_eq!(seen.state, expected),
                None => assert!(matches!(seen.state, PortState::NotMysql { .. }), "{seen:?}"),
            }
            assert!(seen.took < long);
            assert_eq!(serving.await.unwrap(), b"", "nothing was sent");
        }
        // Taken, so that nobody else listens there, and nobody does.
        let taken = tokio::net::TcpSocket::new_v4().unwrap();
        taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let free = taken.local_addr().unwrap().port();
        assert_eq!(
            probe("127.0.0.1", free, long).await.state,
            PortState::Refused
        );
        let nowhere = probe("no-such-host.invalid", 3306, long).await.state;
        assert!(!nowhere.is_sign_of_life(), "{nowhere:?}");
    }
}
