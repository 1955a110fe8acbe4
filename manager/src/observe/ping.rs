//! The manager's only SQL: connect, log in, one statement, within one limit.
//!
//! TLS is as `monitor.ssl_mode` says: with REQUIRED and VERIFY_IDENTITY nothing is sent in plain text, whatever the server
//! offers. A handshake that fails comes after the server's greeting, so it proves life like a refused login does; what is
//! wrong with it is told, and stands in nobody's way.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, IoError, OptsBuilder, SslOpts};

use crate::config::{HostPort, MonitorConfig, MysqlTls, PingType, SslMode};
use crate::verdict::Ping;

/// Errors that only a living server gives: it answered, it just does not want us. MHA's list, and behind it those of a
/// login without password (MariaDB), an expired password, a locked account (MySQL), insecure transport, and a locked account
/// (MariaDB).
const ALIVE_ERRORS: [u16; 16] = [
    1040, 1042, 1043, 1044, 1045, 1129, 1130, 1203, 1226, 1251, 1275, 1698, 1862, 3118, 3159, 4151,
];

/// Creates what the INSERT ping writes to, as MHA does.
const MAKE_TABLE: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS infra",
    "CREATE TABLE IF NOT EXISTS infra.chk_masterha (`key` TINYINT NOT NULL PRIMARY KEY, `val` INT UNSIGNED NOT NULL DEFAULT 0)",
];
const UPSERT: &str = "INSERT INTO infra.chk_masterha VALUES (1, UNIX_TIMESTAMP()) ON DUPLICATE KEY UPDATE val = UNIX_TIMESTAMP()";

/// Pings once, on a connection of its own that is not kept.
pub async fn ping(address: &HostPort, config: &MonitorConfig) -> Ping {
    let limit = config.ping_timeout;
    let once = async {
        let mut connection = connect(address, config).await?;
        connection
            .query_drop("SELECT 1")
            .await
            .map_err(Failed::Query)
    };
    ended(tokio::time::timeout(limit, once).await, limit)
}

/// Pings again and again, as configured. A connection that was cancelled or failed is dropped, never used again.
#[derive(Debug)]
pub struct Pinger {
    address: HostPort,
    config: MonitorConfig,
    connection: Option<Conn>,
}

impl Pinger {
    /// Nothing is dialled yet.
    pub fn new(address: &HostPort, config: &MonitorConfig) -> Self {
        Self {
            address: address.clone(),
            config: config.clone(),
            connection: None,
        }
    }

    /// One ping, within the limit.
    pub async fn ping(&mut self) -> Ping {
        let limit = self.config.ping_timeout;
        // Taken out: if the time is over, it is dropped with the future.
        let kept = self.connection.take();
        let mut answered_query = false;
        let done = {
            let once = self.once(kept);
            tokio::pin!(once);
            match tokio::time::timeout(limit / 2, &mut once).await {
                Ok(done) => Ok(done),
                Err(_) if self.config.ping_type == PingType::Insert => {
                    // A lock stops writes of a server that lives; MHA takes it for dead.
                    let query = tokio::time::timeout(limit / 2, self.query());
                    let (done, query) =
                        futures::join!(tokio::time::timeout(limit / 2, &mut once), query);
                    answered_query = matches!(query, Ok(Ok(())));
                    done
                }
                Err(_) => tokio::time::timeout(limit / 2, &mut once).await,
            }
        };
        match done {
            Ok(Ok(connection)) => {
                self.connection = connection;
                Ping::Answered
            }
            Ok(Err(failed)) => classify(failed),
            Err(_) if answered_query => Ping::AnsweredQuery {
                limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            },
            Err(_) => ended(Err::<Result<(), Failed>, _>(()), limit),
        }
    }

    /// A query on a connection of its own.
    async fn query(&self) -> Result<(), Failed> {
        let mut connection = connect(&self.address, &self.config).await?;
        connection
            .query_drop("SELECT 1")
            .await
            .map_err(Failed::Query)
    }

    /// Returns the connection, if it is to be kept.
    async fn once(&self, kept: Option<Conn>) -> Result<Option<Conn>, Failed> {
        if let Some(mut connection) = kept
            // One that died while nobody looked says nothing about the server.
            && self.ask(&mut connection).await.is_ok()
        {
            return Ok(Some(connection));
        }
        let mut connection = connect(&self.address, &self.config).await?;
        if self.config.ping_type == PingType::Insert {
            for statement in MAKE_TABLE {
                connection
                    .query_drop(statement)
                    .await
                    .map_err(Failed::Query)?;
            }
        }
        self.ask(&mut connection).await.map_err(Failed::Query)?;
        Ok((self.config.ping_type != PingType::Connect).then_some(connection))
    }

    async fn ask(&self, connection: &mut Conn) -> Result<(), Error> {
        let statement = match self.config.ping_type {
            PingType::Select | PingType::Connect => "SELECT 1",
            PingType::Insert => UPSERT,
        };
        connection.query_drop(statement).await
    }
}

/// Where a ping failed.
#[derive(Debug)]
enum Failed {
    Connect(Error),
    Query(Error),
}

async fn connect(address: &HostPort, config: &MonitorConfig) -> Result<Conn, Failed> {
    let tls = tls_options(&config.tls);
    let offered = tls.is_some();
    match open(address, config, tls).await {
        // The only mode in which plain text may take its place.
        Err(error) if offered && config.tls.mode == SslMode::Preferred && is_of_tls(&error) => {
            open(address, config, None).await
        }
        other => other,
    }
    .map_err(Failed::Connect)
}

/// `None`: plain text.
fn tls_options(tls: &MysqlTls) -> Option<SslOpts> {
    let client = tls.client.as_ref().map(|own| {
        ClientIdentity::new(
            own.chain.clone().into(),
            own.key.reveal().as_bytes().to_vec().into(),
        )
    });
    let options = SslOpts::default().with_client_identity(client);
    match tls.mode {
        SslMode::Disabled => None,
        SslMode::Preferred | SslMode::Required => {
            Some(options.with_danger_accept_invalid_certs(true))
        }
        SslMode::VerifyIdentity => {
            let authorities = tls.ca.clone().into_iter().map(Into::into).collect();
            Some(
                options
                    .with_root_certs(authorities)
                    .with_disable_built_in_roots(true)
                    .with_danger_tls_hostname_override(tls.server_name.clone()),
            )
        }
    }
}

/// The server offers no TLS, or none that this program speaks, or its certificate is not accepted.
fn is_of_tls(error: &Error) -> bool {
    match error {
        Error::Driver(DriverError::NoClientSslFlagFromServer) | Error::Io(IoError::Tls(_)) => true,
        Error::Io(IoError::Io(error)) => {
            // Old servers end the connection over a version of TLS that they do not know.
            error.kind() == std::io::ErrorKind::UnexpectedEof || is_handshake(error)
        }
        _ => false,
    }
}

fn is_handshake(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>())
}

async fn open(
    address: &HostPort,
    config: &MonitorConfig,
    tls: Option<SslOpts>,
) -> Result<Conn, Error> {
    let options = OptsBuilder::default()
        .ssl_opts(tls)
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
    Conn::new(options).await
}

fn ended<E>(result: Result<Result<(), Failed>, E>, limit: Duration) -> Ping {
    match result {
        Ok(Ok(())) => Ping::Answered,
        Ok(Err(failed)) => classify(failed),
        Err(_) => Ping::NoAnswer {
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        },
    }
}

fn classify(failed: Failed) -> Ping {
    let (error, logged_in) = match failed {
        Failed::Connect(error) => (error, false),
        Failed::Query(error) => (error, true),
    };
    match error {
        // An error of a statement is an answer, whatever it says.
        Error::Server(e) if logged_in || ALIVE_ERRORS.contains(&e.code) => Ping::AnsweredError {
            errno: e.code,
            text: e.message,
        },
        // It greeted us in a way that we cannot answer: only a living server does.
        Error::Driver(
            e @ (DriverError::UnknownAuthPlugin { .. } | DriverError::MysqlOldPasswordDisabled),
        ) => Ping::AnsweredError {
            errno: 0,
            text: e.to_string(),
        },
        // After its greeting, all of them.
        Error::Driver(DriverError::NoClientSslFlagFromServer) => Ping::AnsweredError {
            errno: 0,
            text: "it offers no TLS, which monitor.ssl_mode asks for".to_owned(),
        },
        Error::Io(IoError::Tls(e)) => Ping::AnsweredError {
            errno: 0,
            text: format!("TLS: {e}"),
        },
        Error::Io(IoError::Io(e)) if is_handshake(&e) => Ping::AnsweredError {
            errno: 0,
            text: format!("TLS: {e}"),
        },
        Error::Driver(e) => Ping::Failed {
            text: e.to_string(),
        },
        Error::Io(IoError::Io(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
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
            ping_timeout: Duration::from_millis(300),
            ..MonitorConfig::default()
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
    async fn a_pinger_waits_no_longer_than_its_limit_and_keeps_nothing_that_failed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut pinger = Pinger::new(&local(port), &monitor());
        assert_eq!(pinger.ping().await, Ping::NoAnswer { limit_ms: 300 });
        drop(listener);
        assert_eq!(pinger.ping().await, Ping::Refused);
        assert!(pinger.connection.is_none());
    }

    #[test]
    fn an_error_of_a_statement_is_an_answer_and_one_of_a_login_only_from_the_list() {
        let error = |code| {
            Error::Server(mysql_async::ServerError {
                code,
                message: "text".into(),
                state: "HY000".into(),
            })
        };
        for (code, in_login, in_statement) in [
            (1045, true, true),
            (3159, true, true),
            (1290, false, true),
            (1053, false, true),
        ] {
            assert_eq!(classify(Failed::Connect(error(code))).is_alive(), in_login);
            assert_eq!(
                classify(Failed::Query(error(code))).is_alive(),
                in_statement
            );
        }
    }

    #[test]
    fn a_failed_handshake_proves_life_and_only_preferred_goes_on_without_it() {
        let io = |inner: rustls::Error| {
            Error::Io(IoError::Io(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                inner,
            )))
        };
        let closed = Error::Io(IoError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        let refused = Error::Io(IoError::Io(std::io::ErrorKind::ConnectionRefused.into()));
        for (error, of_tls, alive) in [
            (
                Error::Driver(DriverError::NoClientSslFlagFromServer),
                true,
                true,
            ),
            (io(rustls::Error::DecryptError), true, true),
            // A server that died in the middle of it closes the connection, too.
            (closed, true, false),
            (refused, false, false),
        ] {
            assert_eq!(is_of_tls(&error), of_tls, "{error:?}");
            let ping = classify(Failed::Connect(error));
            assert_eq!(ping.is_alive(), alive, "{ping:?}");
        }
    }

    #[test]
    fn nothing_is_accepted_unverified_where_it_is_to_be_verified() {
        let tls = |mode| MysqlTls {
            mode,
            ca: Some(b"pem".to_vec()),
            client: None,
            server_name: Some("db.example".to_owned()),
        };
        assert_eq!(tls_options(&tls(SslMode::Disabled)), None);
        for mode in [SslMode::Preferred, SslMode::Required] {
            assert!(tls_options(&tls(mode)).unwrap().accept_invalid_certs());
        }
        let verified = tls_options(&tls(SslMode::VerifyIdentity)).unwrap();
        assert!(!verified.accept_invalid_certs() && !verified.skip_domain_validation());
        assert!(verified.disable_built_in_roots());
        assert_eq!(verified.root_certs().len(), 1);
        assert_eq!(verified.tls_hostname_override(), Some("db.example"));
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
