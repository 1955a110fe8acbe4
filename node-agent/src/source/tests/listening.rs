//! Over TCP: the port, the end, and a client library that is not ours.

use tokio::net::TcpStream;

use super::client::Replica;
use super::fixture::{assert_rotate, at, config};
use super::memory_feed::MemoryFeed;
use crate::source::auth::AuthPlugin;
use crate::source::identity::tests::mysql56;
use crate::source::{LocalSource, ReplayAccount, SourceConfig, SourceError, SourceIdentity};

#[tokio::test]
async fn a_source_listens_on_loopback_stops_and_takes_its_port_again() {
    let feed = MemoryFeed::starting("bin.000001", true);
    let source = LocalSource::start(SourceConfig {
        account: None,
        ..config(mysql56(), feed)
    })
    .await
    .unwrap();
    let port = source.port();
    let account = source.account().clone();
    let connect = || TcpStream::connect(("127.0.0.1", port));
    let plugin = AuthPlugin::NativePassword;
    let mut replica = Replica::log_in(
        connect().await.unwrap(),
        &account.user,
        &account.password,
        plugin,
    )
    .await
    .unwrap();
    replica.query("SET @master_binlog_checksum='CRC32'").await;
    replica.dump("bin.000001", 4, 0).await;
    assert_rotate(&replica.event().await, &at("bin.000001:4"), true);
    replica.event().await; // the format description

    let feed = MemoryFeed::starting("bin.000001", true);
    let taken = LocalSource::start(SourceConfig {
        bind_port: Some(port),
        ..config(mysql56(), feed)
    })
    .await;
    assert!(matches!(taken, Err(SourceError::Bind { port: found, .. }) if found == port));

    source.stop().await;
    assert_eq!(replica.read().await, None, "connections end");
    assert!(connect().await.is_err(), "the port is closed");

    let feed = MemoryFeed::starting("bin.000001", true);
    let again = LocalSource::start(SourceConfig {
        bind_port: Some(port),
        account: Some(account.clone()),
        ..config(mysql56(), feed)
    });
    let again = again.await.unwrap();
    assert_eq!(again.port(), port);
    Replica::log_in(
        connect().await.unwrap(),
        &account.user,
        &account.password,
        plugin,
    )
    .await
    .map(drop)
    .unwrap();
    assert_eq!(again.progress().borrow().connections, 1);
}

#[tokio::test]
async fn an_independent_client_library_logs_in_with_both_plugins() {
    use mysql_async::prelude::Queryable;
    for version in ["5.6.24-log", "8.4.3"] {
        let identity = SourceIdentity {
            version: version.into(),
            ..mysql56()
        };
        let feed = MemoryFeed::starting("bin.000001", true);
        let source = LocalSource::start(SourceConfig {
            account: None,
            ..config(identity, feed)
        })
        .await
        .unwrap();
        let options = |password: &str| {
            mysql_async::OptsBuilder::default()
                .ip_or_hostname("127.0.0.1")
                .tcp_port(source.port())
                .user(Some(source.account().user.clone()))
                .pass(Some(password.to_owned()))
                .prefer_socket(Some(false))
                .max_allowed_packet(Some(1 << 24))
                .wait_timeout(Some(100))
        };
        let mut client = mysql_async::Conn::new(options(&source.account().password))
            .await
            .unwrap();
        let found: Option<String> = client.query_first("SELECT VERSION()").await.unwrap();
        assert_eq!(found.as_deref(), Some(version));
        let unknown = client.query_drop("SELECT @@no_such_variable").await;
        assert!(matches!(unknown, Err(mysql_async::Error::Server(error)) if error.code == 1193));
        client.disconnect().await.unwrap();
        let refused = mysql_async::Conn::new(options("wrong")).await;
        assert!(matches!(refused, Err(mysql_async::Error::Server(error)) if error.code == 1045));
        source.stop().await;
    }
}

#[tokio::test]
async fn accounts_that_no_server_could_store_are_refused() {
    for (user, password) in [
        ("", "x"),
        ("a_name_of_17_bytes", "x"),
        ("u", "a password of more than 32 bytes .."),
    ] {
        let account = Some(ReplayAccount {
            user: user.into(),
            password: password.into(),
        });
        let feed = MemoryFeed::starting("bin.000001", true);
        let started = LocalSource::start(SourceConfig {
            account,
            ..config(mysql56(), feed)
        })
        .await;
        assert!(
            matches!(started, Err(SourceError::Account { .. })),
            "{user}"
        );
    }
}
