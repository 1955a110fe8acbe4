//! The channel record, and what it brings back.

use super::*;
use crate::config::Secret;
use crate::mysqld::Receiver;
use crate::replication::credentials::FoundIn;
use std::time::Duration;

pub(in crate::replication) fn status(host: &str, port: u16, user: &str) -> ReplicaStatus {
    ReplicaStatus {
        channel: String::new(),
        channels: 1,
        source_host: host.to_owned(),
        source_port: port,
        source_user: user.to_owned(),
        receiver: Receiver::Stopped,
        applier_running: true,
        applier_state: String::new(),
        read: None,
        executed: None,
        relay: None,
        receiver_error: None,
        applier_error: None,
        delay: Duration::from_secs(5),
        auto_position: false,
        using_gtid: UsingGtid::SlavePos,
        gtid_executed: String::new(),
        gtid_received: String::new(),
        source_server_id: 1,
        source_uuid: String::new(),
        seconds_behind: None,
        filters: Vec::new(),
        connect_retry: 60,
        retry_count: None,
        bind: String::new(),
        ignore_server_ids: Vec::new(),
        tls: ChannelTls::default(),
    }
}

fn original() -> OriginalChannel {
    OriginalChannel::of(
        &status("db1", 3306, "repl"),
        &Credentials {
            user: "repl".to_owned(),
            password: Secret::new("secret".to_owned()),
            found_in: FoundIn::File,
        },
        Some("30.000".to_owned()),
    )
}

pub(in crate::replication) fn replaying() -> ChannelRecord {
    ChannelRecord {
        phase: Phase::Replaying,
        receiver_was_running: true,
        original: Some(original()),
        saved_globals: BTreeMap::from([("relay_log_purge".to_owned(), "OFF".to_owned())]),
        replay: Some(Replay {
            port: 4000,
            user: "mha_x".to_owned(),
            password: "one-time".to_owned(),
            segments: vec![PathBuf::from("/s/1")],
            from: "b.000001:4".parse().unwrap(),
            by_gtid: false,
            until: "b.000001:900".parse().unwrap(),
            executed_before: None,
            half_transaction: false,
            applier_killed: false,
            maybe_twice: Vec::new(),
            beside: None,
        }),
        ..ChannelRecord::new("op1")
    }
}

#[test]
fn a_channel_that_points_at_the_local_source_keeps_its_recorded_original() {
    let adopted = ChannelRecord::adopt(
        Some(replaying()),
        "op2",
        &status("127.0.0.1", 4000, "mha_x"),
    );
    assert_eq!(adopted.operation, "op2");
    assert_eq!(adopted.phase, Phase::Replaying);
    assert_eq!(adopted.original, Some(original()));
    assert!(adopted.receiver_was_running);
}

#[test]
fn a_channel_that_was_not_changed_yet_is_read_again_and_remembers_how_it_ran() {
    let adopted = ChannelRecord::adopt(Some(replaying()), "op2", &status("db1", 3306, "repl"));
    assert_eq!(adopted.phase, Phase::Replaying);
    assert_eq!(adopted.original, None);
    assert_eq!(adopted.replay, replaying().replay);
    assert!(adopted.receiver_was_running);
    assert_eq!(adopted.saved_globals.len(), 1);
}

#[test]
fn a_channel_that_somebody_else_changed_is_a_new_one_with_our_saved_globals() {
    for phase in [Phase::Replaying, Phase::Replayed, Phase::Promoted] {
        let record = ChannelRecord {
            phase,
            ..replaying()
        };
        let adopted = ChannelRecord::adopt(Some(record), "op2", &status("db7", 3306, "repl"));
        assert_eq!(adopted.original, None, "{phase:?}");
        assert!(!adopted.receiver_was_running, "{phase:?}");
        assert!(adopted.applier_was_running, "{phase:?}");
        assert_eq!(adopted.saved_globals.len(), 1, "{phase:?}");
    }
    let fresh = ChannelRecord::adopt(None, "op1", &status("db1", 3306, "repl"));
    assert!(fresh.saved_globals.is_empty());
}

#[test]
fn it_is_private_on_disk_complete_and_silent_about_passwords() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("servers/db2_3306");
    let record = replaying();
    record.store(&folder).unwrap();
    assert_eq!(ChannelRecord::load(&folder).unwrap().unwrap(), record);
    let mode = std::fs::metadata(folder.join(ChannelRecord::FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(unfinished_replay(&folder).unwrap().as_deref(), Some("op1"));
    ChannelRecord {
        phase: Phase::Promoted,
        ..record.clone()
    }
    .store(&folder)
    .unwrap();
    assert_eq!(unfinished_replay(&folder).unwrap(), None);
    ChannelRecord::remove(&folder).unwrap();
    assert_eq!(ChannelRecord::load(&folder).unwrap(), None);
    let shown = format!("{record:?}");
    assert!(
        !shown.contains("secret") && !shown.contains("one-time"),
        "{shown}"
    );
}

#[test]
fn a_record_of_an_older_agent_is_one_of_a_replay_with_the_applier_stopped() {
    let mut text = serde_json::to_value(replaying()).unwrap();
    text["replay"].as_object_mut().unwrap().remove("beside");
    let read: ChannelRecord = serde_json::from_value(text).unwrap();
    assert_eq!(read, replaying());
    assert_eq!(read.replay.unwrap().way(), Way::Stopped);
}

#[test]
fn a_replaying_server_is_observed_as_a_replica_of_its_original() {
    let mut seen = status("127.0.0.1", 4000, "mha_x");
    seen.using_gtid = UsingGtid::No;
    observed_as_original(&mut seen, &replaying());
    assert_eq!((seen.source_host.as_str(), seen.source_port), ("db1", 3306));
    assert_eq!(seen.using_gtid, UsingGtid::SlavePos);
    let mut other = status("db7", 3306, "repl");
    observed_as_original(&mut other, &replaying());
    assert_eq!(other.source_host, "db7");
}

#[test]
fn what_a_replay_overwrites_is_named_when_it_is_restored() {
    let options = format!("{:?}", original().restoring("db2", 3307));
    for name in [
        "MASTER_HOST='db2'",
        "MASTER_PORT=3307",
        "MASTER_USER='repl'",
        "MASTER_PASSWORD",
        "MASTER_CONNECT_RETRY=60",
        "MASTER_DELAY=5",
        "MASTER_SSL=0",
        "MASTER_HEARTBEAT_PERIOD=30.000",
    ] {
        assert!(options.contains(name), "{name} in {options}");
    }
}
