//! Values for the tables of the pure parts.

use std::collections::BTreeMap;

use binlog_core::{BinlogPosition, StreamRange};

use crate::config::{
    AgentEndpoint, Candidacy, ClusterConfig, FailoverPolicy, HostPort, MonitorConfig, Security,
    ServerConfig,
};
use crate::facts::{
    Answer, Configured, Flavor, Identity, LastTransaction, LogEnd, LogEndKind, LogSurvey, Process,
    Receiver, Replica, ServerFacts, Settings,
};
use crate::observe::{ServerView, Snapshot};
use crate::topology::{self, Assurances, Topology};
use crate::verdict::Ping;

/// `1:452` is `mysql-bin.000001:452`.
pub(crate) fn at(text: &str) -> BinlogPosition {
    let (file, offset) = text.split_once(':').unwrap();
    let file: u64 = file.parse().unwrap();
    format!("mysql-bin.{file:06}:{offset}").parse().unwrap()
}

/// `1:4 1:452` is a range.
pub(crate) fn range(text: &str) -> StreamRange {
    let (from, to) = text.split_once(' ').unwrap();
    StreamRange::new(at(from), at(to))
}

/// A log that holds these ranges and ends its last transaction there.
pub(crate) fn holds(ranges: &[&str], last: Option<&str>) -> LogSurvey {
    let ranges: Vec<StreamRange> = ranges.iter().map(|r| range(r)).collect();
    let end = ranges.last().map(|r| r.to.clone());
    LogSurvey {
        end: end.as_ref().map(|e| LogEnd {
            kind: LogEndKind::InUse,
            file: e.file.as_str().to_owned(),
            offset: e.offset,
            detail: String::new(),
        }),
        whole_end: last.map(at).or_else(|| end.clone()),
        data_end: end,
        last_transaction: last.map(|l| LastTransaction {
            end: at(l),
            gtid: None,
            xid: Some(1),
        }),
        ranges,
        walked_bytes: 0,
    }
}

pub(crate) fn identity(server_id: u32, version: &str) -> Identity {
    Identity {
        flavor: if version.contains("MariaDB") {
            Flavor::MariaDb
        } else {
            Flavor::Mysql
        },
        version: version.to_owned(),
        server_id,
        server_uuid: uuid(server_id),
        gtid_mode: "OFF".to_owned(),
        binlog_checksum: "CRC32".to_owned(),
        log_bin_basename: "/data/mysql-bin".to_owned(),
    }
}

pub(crate) fn uuid(n: u32) -> String {
    format!("{n:08x}-0000-0000-0000-000000000000")
}

pub(crate) fn replica(read: &str, executed: &str) -> Replica {
    Replica {
        source_host: "db1".to_owned(),
        source_port: 3306,
        receiver: Receiver::Connecting,
        applier_running: true,
        read: Some(at(read)),
        executed: Some(at(executed)),
        relay: None,
        receiver_error: None,
        applier_error: None,
        delay_s: 0,
        gtid_position: false,
        gtid_executed: String::new(),
        gtid_received: String::new(),
        source_server_id: 1,
        source_uuid: uuid(1),
        channels: 1,
    }
}

pub(crate) fn survivor_facts(server_id: u32, read: &str, executed: &str) -> ServerFacts {
    ServerFacts {
        process: Process::Running,
        held_down_by: None,
        sql_error: None,
        identity: Some(identity(server_id, "5.6.24-log")),
        settings: Some(Settings {
            read_only: true,
            log_bin: true,
            log_replica_updates: true,
            parallel_workers: 0,
            binlog_filters: vec![],
            replicate_filters: vec![],
            log_encryption: None,
            binlog_storage_engine: None,
            relay_log_recovery: false,
            semi_sync_source: None,
            semi_sync_replica: None,
            semi_sync_wait_for: None,
            semi_sync_timeout_ms: None,
        }),
        binlog: None,
        replica: Some(replica(read, executed)),
        unfinished_replay: None,
        credentials_source: Some("config".to_owned()),
        configured_read_only: Configured {
            answer: Answer::Yes,
            evidence: "read_only=1 at /etc/my.cnf:1".to_owned(),
        },
        semi_sync_received: false,
        account: None,
    }
}

pub(crate) fn dead_facts() -> ServerFacts {
    ServerFacts {
        process: Process::NotRunning,
        sql_error: Some("no socket".to_owned()),
        settings: None,
        replica: None,
        credentials_source: None,
        ..survivor_facts(1, "1:4", "1:4")
    }
}

/// db1 is the primary; db2 .. are its replicas, all allowed.
pub(crate) fn config(servers: usize) -> ClusterConfig {
    ClusterConfig {
        file: "/nonexistent/app1.yaml".into(),
        cluster: "app1".to_owned(),
        manager_name: "m1".to_owned(),
        state_dir: "/nonexistent".into(),
        security: Security::Plaintext,
        servers: (1..=servers)
            .map(|n| ServerConfig {
                name: format!("db{n}"),
                address: HostPort {
                    host: format!("db{n}"),
                    port: 3306,
                },
                agent: AgentEndpoint {
                    address: format!("127.0.0.{n}:7306"),
                    name: format!("db{n}"),
                    dns_name: format!("db{n}.app1.agent.mha"),
                },
                candidacy: Candidacy::Allowed,
                ignore_fail: false,
            })
            .collect(),
        binlog_servers: Vec::new(),
        monitor: MonitorConfig::default(),
        lease: crate::lease::LeaseMode::Auto,
        failover: FailoverPolicy::default(),
        hooks: crate::hooks::HookSettings::none(),
        virtual_ip: None,
    }
}

/// A snapshot of a dead db1 and its replicas.
pub(crate) fn snapshot(replicas: &[(&str, &str)]) -> Snapshot {
    let mut servers = vec![ServerView {
        server: "db1".to_owned(),
        facts: Ok(dead_facts()),
    }];
    for ((read, executed), n) in replicas.iter().zip(2u32..) {
        servers.push(ServerView {
            server: format!("db{n}"),
            facts: Ok(survivor_facts(n, read, executed)),
        });
    }
    Snapshot {
        servers,
        ping: Ping::Refused,
        ports: vec![],
        stalled: None,
        claims: vec![],
    }
}

pub(crate) fn topology(replicas: &[(&str, &str)]) -> Topology {
    let config = config(replicas.len() + 1);
    let dead = config.servers.first().unwrap();
    topology::sort(&config, dead, &snapshot(replicas), Assurances::default()).unwrap()
}

/// Each server has an agent of its own.
pub(crate) fn agents(servers: usize) -> BTreeMap<String, String> {
    (1..=servers)
        .map(|n| (format!("db{n}"), format!("127.0.0.{n}:7306")))
        .collect()
}
