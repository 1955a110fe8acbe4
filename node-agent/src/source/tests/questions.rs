//! From login to the dump: what each kind of replica asks, in its order.

use tokio::time::Instant;

use super::client::{Replica, Response};
use super::fixture::{InMemory, assert_description, assert_rotate, at, config};
use super::memory_feed::MemoryFeed;
use crate::source::auth::AuthPlugin;
use crate::source::identity::tests::{mariadb, mysql56};
use crate::source::{SourceIdentity, SourceLimits};

#[tokio::test(start_paused = true)]
async fn mysql_5_6_gets_through_its_questions_in_order() {
    let source = InMemory::new(config(mysql56(), MemoryFeed::starting("bin.000001", true)));
    let mut replica = source.replica().await;
    let now: u64 = replica
        .value("SELECT UNIX_TIMESTAMP()")
        .await
        .unwrap()
        .parse()
        .unwrap();
    assert!(now > 1_700_000_000);
    let server_id = replica.query("SHOW VARIABLES LIKE 'SERVER_ID'").await;
    assert_eq!(
        server_id,
        Response::Rows(vec![vec![Some("server_id".into()), Some("1".into())]])
    );
    for text in [
        "SET @master_heartbeat_period= 1799999979520",
        "SET @master_binlog_checksum= @@global.binlog_checksum",
    ] {
        assert_eq!(replica.query(text).await, Response::Ok, "{text}");
    }
    assert_eq!(
        replica
            .value("SELECT @master_binlog_checksum")
            .await
            .as_deref(),
        Some("CRC32")
    );
    assert_eq!(
        replica.value("SELECT @@GLOBAL.GTID_MODE").await.as_deref(),
        Some("OFF")
    );
    let uuid = replica.query("SHOW VARIABLES LIKE 'SERVER_UUID'").await;
    assert!(matches!(uuid, Response::Rows(rows) if rows[0][1] == mysql56().server_uuid));
    assert_eq!(replica.query("SET @slave_uuid= 'b'").await, Response::Ok);
    replica.dump("bin.000001", 4, 0).await;
    assert_rotate(&replica.event().await, &at("bin.000001:4"), true);
    assert_description(&replica.event().await, false);
}

#[tokio::test(start_paused = true)]
async fn mariadb_gets_through_its_questions_in_order() {
    let mut feed = MemoryFeed::starting("bin.000001", true);
    let end = feed.end().0;
    feed.gtid_pos = Some((end.clone(), "0-71-5".parse().unwrap()));
    let source = InMemory::new(config(mariadb(), feed));
    let mut replica = source.replica().await;
    replica.value("SELECT UNIX_TIMESTAMP()").await.unwrap();
    replica.query("SHOW VARIABLES LIKE 'SERVER_ID'").await;
    assert_eq!(
        replica
            .query("SET @master_heartbeat_period= 30000001024")
            .await,
        Response::Ok
    );
    replica
        .query("SET @master_binlog_checksum= @@global.binlog_checksum")
        .await;
    assert_eq!(
        replica
            .value("SELECT @master_binlog_checksum")
            .await
            .as_deref(),
        Some("CRC32")
    );
    assert_eq!(
        replica.query("SET @mariadb_slave_capability=4").await,
        Response::Ok
    );
    let exact = format!("SELECT binlog_gtid_pos('{}',{})", end.file, end.offset);
    assert_eq!(replica.value(&exact).await.as_deref(), Some("0-71-5"));
    for text in [
        "SELECT binlog_gtid_pos('bin.000001',4)",
        "SELECT binlog_gtid_pos('nonsense',4)",
    ] {
        assert_eq!(replica.value(text).await.as_deref(), Some(""), "{text}");
    }
    let semi_sync = replica
        .query("SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'")
        .await;
    assert_eq!(semi_sync, Response::Rows(vec![]));
    replica.dump("bin.000001", end.offset as u32, 0).await;
    assert_rotate(&replica.event().await, &end, true);
    assert_description(&replica.event().await, true);
}

#[tokio::test(start_paused = true)]
async fn newer_mysql_gets_through_its_questions_and_reads_unknown_as_unknown() {
    let identity = SourceIdentity {
        version: "8.4.3".into(),
        gtid_mode: Some("ON".into()),
        ..mysql56()
    };
    let source = InMemory::new(config(identity, MemoryFeed::starting("bin.000001", true)));
    let mut replica = source.replica().await;
    assert_eq!(
        replica.value("SELECT @@GLOBAL.SERVER_ID").await.as_deref(),
        Some("1")
    );
    let both = "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum";
    assert_eq!(replica.query(both).await, Response::Ok);
    assert_eq!(
        replica
            .value("SELECT @source_binlog_checksum")
            .await
            .as_deref(),
        Some("CRC32")
    );
    assert_eq!(
        replica.value("SELECT @@GLOBAL.GTID_MODE").await.as_deref(),
        Some("ON")
    );
    assert_eq!(
        replica.value("SELECT @@GLOBAL.SERVER_UUID").await,
        mysql56().server_uuid
    );
    for text in [
        "SELECT @@global.rpl_semi_sync_source_enabled",
        "SELECT whatever()",
    ] {
        assert!(
            matches!(replica.query(text).await, Response::Error(1193, _)),
            "{text}"
        );
    }
    let by_gtid = replica.command(&[0x1e, 0, 0]).await;
    assert!(
        matches!(by_gtid, Response::Error(1047, _)),
        "cut off: {by_gtid:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn other_commands_are_answered_and_the_connection_goes_on() {
    let source = InMemory::new(config(mysql56(), MemoryFeed::starting("bin.000001", true)));
    let mut replica = source.replica().await;
    assert_eq!(replica.command(&[0x0e]).await, Response::Ok, "COM_PING");
    assert_eq!(
        replica.command(b"\x02db").await,
        Response::Ok,
        "COM_INIT_DB"
    );
    assert_eq!(
        replica.command(&[0x1b, 0, 0]).await,
        Response::Eof,
        "COM_SET_OPTION"
    );
    assert_eq!(
        replica.command(&[0x1f]).await,
        Response::Ok,
        "COM_RESET_CONNECTION"
    );
    assert_eq!(replica.query("KILL 99").await, Response::Ok);
    assert!(matches!(
        replica.command(&[0x16]).await,
        Response::Error(1047, _)
    ));
    assert!(matches!(
        replica.query("DROP TABLE t").await,
        Response::Error(1064, _)
    ));
    replica.sequence = 0;
    replica.write(&[0x01]).await;
    assert_eq!(replica.read().await, None, "COM_QUIT closes");
}

#[tokio::test(start_paused = true)]
async fn only_the_account_logs_in() {
    for (identity, plugin, other) in [
        (
            mysql56(),
            AuthPlugin::NativePassword,
            AuthPlugin::CachingSha2,
        ),
        (
            SourceIdentity {
                version: "8.0.36".into(),
                ..mysql56()
            },
            AuthPlugin::CachingSha2,
            AuthPlugin::NativePassword,
        ),
    ] {
        let source = InMemory::new(config(identity, MemoryFeed::starting("bin.000001", true)));
        assert_eq!(source.shared.plugin, plugin);
        for used in [plugin, other] {
            // The other one is answered with a request to switch.
            assert!(
                Replica::log_in(source.connect(), "mha_test", "secret", used)
                    .await
                    .is_ok()
            );
            for (user, password) in [
                ("mha_test", "Secret"),
                ("mha_test", ""),
                ("root", "secret"),
                ("", ""),
            ] {
                let refused = Replica::log_in(source.connect(), user, password, used).await;
                assert!(matches!(refused, Err((1045, _))), "{user} {password}");
            }
        }
        assert_eq!(source.progress().refused_logins, 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_dropped_at_the_login_deadline() {
    let source = InMemory::new(config(mysql56(), MemoryFeed::starting("bin.000001", true)));
    let mut silent = Replica {
        stream: source.connect(),
        sequence: 0,
    };
    assert!(silent.read().await.is_some(), "the greeting");
    let start = Instant::now();
    assert_eq!(silent.read().await, None);
    assert_eq!(start.elapsed(), SourceLimits::default().login);
}
