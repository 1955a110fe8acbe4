//! The manager's only SQL: connect, log in, `SELECT 1`, within one limit.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder};

use crate::config::{HostPort, MonitorConfig};
use crate::verdict::Ping;

/// Errors that only a living server gives (MHA's list): it answered, it just does not want us.
const ALIVE_ERRORS: [u16; 11] = [
    1040, 1042, 1043, 1044, 1045, 1129, 1130, 1203, 1226, 1251, 1275,
];

/// Pings once. The connection is never kept: a cancelled one must not be used again.
pub(super) async fn ping(address: &HostPort, config: &MonitorConfig) -> Ping {
    let limit = config.ping_timeout;
    match tokio::time::timeout(limit, select(address, config)).await {
        Ok(Ok(())) => Ping::Answered,
        Ok(Err(error)) => classify(error),
        Err(_) => Ping::NoAnswer {
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        },
    }
}

async fn select(address: &HostPort, config: &MonitorConfig) -> Result<(), Error> {
    let options = OptsBuilder::default()
        .ip_or_hostname(address.host.clone())
        .tcp_port(address.port)
        .user(Some(
            config.user.clone().unwrap_or_else(|| "mha".to_owned()),
        ))
        .pass(config.password.as_ref().map(|p| p.reveal().to_owned()))
        // On a loopback address the driver would silently change to a socket.
        .prefer_socket(false)
        // Given, so that the driver does not ask for them.
        .max_allowed_packet(Some(1 << 20))
        .wait_timeout(Some(10))
        .conn_ttl(Some(Duration::from_secs(10)));
    let mut connection = Conn::new(options).await?;
    connection.query_drop("SELECT 1").await
}

fn classify(error: Error) -> Ping {
    match error {
        Error::Server(e) if ALIVE_ERRORS.contains(&e.code) => Ping::AnsweredError {
            errno: e.code,
            text: e.message,
        },
        // An authentication plugin or a protocol we cannot speak: a server said so.
        Error::Driver(e) => Ping::Failed {
            text: e.to_string(),
        },
        Error::Io(mysql_async::IoError::Io(e))
            if e.kind() == std::io::ErrorKind::ConnectionRefused =>
        {
            Ping::Refused
        }
        other => Ping::Failed {
            text: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn monitor() -> MonitorConfig {
        MonitorConfig {
            user: None,
            password: None,
            ping_timeout: Duration::from_millis(300),
        }
    }

    fn local(port: u16) -> HostPort {
        HostPort {
            host: "127.0.0.1".into(),
            port,
        }
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(ping(&local(port), &monitor()).await, Ping::Refused);
    }

    #[tokio::test]
    async fn a_silent_server_does_not_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = ping(&local(port), &monitor()).await;
        assert_eq!(seen, Ping::NoAnswer { limit_ms: 300 });
    }

    #[tokio::test]
    async fn error_packets_are_told_apart() {
        for (errno, alive) in [(1040u16, true), (1129, true), (1053, false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut socket, _) = listener.accept().await.unwrap();
                // ERR packet in place of the greeting: length, sequence 0, 0xff, errno, text.
                let mut packet = vec![0xff];
                packet.extend(errno.to_le_bytes());
                packet.extend(b"go away");
                let mut wire = vec![packet.len() as u8, 0, 0, 0];
                wire.extend(packet);
                socket.write_all(&wire).await.unwrap();
                socket.flush().await.unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
            });
            let seen = ping(&local(port), &monitor()).await;
            assert_eq!(seen.is_alive(), alive, "{errno}: {seen:?}");
            server.abort();
        }
    }
}
