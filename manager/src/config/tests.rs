//! Tables of good and bad files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::lease::LeaseMode;

const GOOD: &str = "\
cluster: app1
plaintext: true
state_dir: state
servers:
  - { name: 'db1:3306', host: 127.0.0.1, port: 3306, agent: '127.0.0.1:7306', candidate: preferred }
  - { name: 'db2:3306', host: db2.example, agent: '127.0.0.2:7306', agent_name: two, ignore_fail: true }
failover:
  on_unreachable_log: stop
  save_timeout: 5s
";

fn load_text(text: &str) -> Result<ClusterConfig, ConfigError> {
    let path = Path::new("/etc/mha/app1.yaml");
    resolved::resolve(path, parse(path, text)?, &Default::default())
}

#[test]
fn a_good_file_is_resolved_with_defaults() {
    let config = load_text(GOOD).unwrap();
    assert_eq!(config.cluster, "app1");
    assert_eq!(config.state_dir, Path::new("/etc/mha/state"));
    let [one, two] = config.servers.as_slice() else {
        panic!("two servers")
    };
    assert_eq!(one.candidacy, Candidacy::Preferred);
    assert_eq!(one.agent.dns_name, "db1.app1.agent.mha");
    assert_eq!(two.agent.dns_name, "two.app1.agent.mha");
    assert_eq!(two.address.to_string(), "db2.example:3306");
    assert!(two.ignore_fail && !one.ignore_fail);
    assert_eq!(config.failover.on_unreachable_log, UnreachableLog::Stop);
    assert_eq!(config.failover.save_timeout, Duration::from_secs(5));
    assert_eq!(config.failover.progress_timeout, Duration::from_secs(30));
    assert_eq!(config.monitor.ping_timeout, Duration::from_secs(1));
    assert_eq!(config.find("127.0.0.1:3306").unwrap().name, "db1:3306");
    assert_eq!(config.find("db2:3306").unwrap().name, "db2:3306");
    assert!(config.find("db3:3306").is_none());
}

#[test]
fn binlog_servers_are_no_servers() {
    let text = format!(
        "{GOOD}binlog_servers:\n  - {{ name: binlog1, agent: '127.0.0.9:7306' }}\n  - {{ name: 'b:2', agent: '127.0.0.9:7307', agent_name: copies }}\n"
    );
    let config = load_text(&text).unwrap();
    assert_eq!(config.servers.len(), 2);
    let [one, two] = config.binlog_servers.as_slice() else {
        panic!("{:?}", config.binlog_servers)
    };
    assert_eq!(one.agent.dns_name, "binlog1.app1.agent.mha");
    assert_eq!(two.agent.dns_name, "copies.app1.agent.mha");
    assert_eq!(config.binlog_server("b:2"), Some(two));
    // Nobody fails over to or from one.
    assert!(config.find("binlog1").is_none());
    assert!(load_text(GOOD).unwrap().binlog_servers.is_empty());
    for (keys, expected) in [
        (
            "name: 'db1:3306', agent: '127.0.0.9:1'",
            "binlog_servers[0].name: expected a name no server",
        ),
        (
            "name: 'a/b', agent: '127.0.0.9:1'",
            "binlog_servers[0].name: expected a name like",
        ),
        (
            "name: b, agent: nowhere",
            "binlog_servers[0].agent: expected host:port",
        ),
        (
            "name: b, agent: '10.0.0.9:1'",
            "binlog_servers[0].agent: expected a loopback",
        ),
        (
            "name: B, agent: '127.0.0.9:1'",
            "binlog_servers[0].agent_name",
        ),
        (
            "name: b, agent: '127.0.0.9:1', candidate: never",
            "unknown field `candidate`",
        ),
    ] {
        let error = load_text(&format!("{GOOD}binlog_servers: [{{ {keys} }}]\n")).unwrap_err();
        let told = crate::observe::chain(&error);
        assert!(told.contains(expected), "{keys}: {told}");
    }
}

#[test]
fn bad_files_are_refused_with_key_or_line() {
    let table: &[(&str, &str, &str)] = &[
        (
            "cluster: app1",
            "cluster: App 1",
            "cluster: expected a DNS label",
        ),
        ("plaintext: true\n", "", "tls: expected ca, cert and key"),
        (
            "candidate: preferred",
            "canddate: preferred",
            "did you mean `candidate`?",
        ),
        ("candidate: preferred", "canddate: preferred", "line 5"),
        ("candidate: preferred", "candidate: perhaps", "line 5"),
        (
            "save_timeout: 5s",
            "save_timeout: 5",
            "failover.save_timeout: expected a duration",
        ),
        (
            "save_timeout: 5s",
            "save_timeout: 0s",
            "failover.save_timeout: expected a duration",
        ),
        (
            "save_timeout: 5s",
            "safe_timeout: 5s",
            "did you mean `save_timeout`?",
        ),
        (
            "agent: '127.0.0.1:7306'",
            "agent: 10.0.0.1",
            "servers[0].agent: expected host:port",
        ),
        (
            "agent: '127.0.0.1:7306'",
            "agent: '10.0.0.1:7306'",
            "servers[0].agent: expected a loopback",
        ),
        (
            "agent: '127.0.0.1:7306'",
            "agent: 'localhost:7306'",
            "servers[0].agent: expected a loopback",
        ),
        (
            "name: 'db2:3306'",
            "name: 'db1:3306'",
            "servers[1].name: expected a name no other",
        ),
        (
            "host: db2.example",
            "host: 127.0.0.1",
            "servers[1].host: expected an address no other",
        ),
        (
            "agent_name: two",
            "agent_name: Two.x",
            "servers[1].agent_name: expected the name in",
        ),
        ("port: 3306", "port: 0", "servers[0].port: expected a port"),
        ("port: 3306", "port: 70000", "line 5"),
        (
            "host: db2.example",
            "host: 'db2 example'",
            "servers[1].host: expected a host name",
        ),
        (
            "name: 'db1:3306'",
            "name: ''",
            "servers[0].name: expected a name",
        ),
        ("cluster: app1\n", "", "missing field `cluster`"),
        ("plaintext: true", "plaintext: yes please", "line 2"),
        ("failover:", "fail_over:", "line"),
        ("ignore_fail: true", "ignore_fail: 1", "line 6"),
        ("cluster: app1", "cluster: [", "line"),
    ];
    for (from, to, expected) in table {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let error = load_text(&text).expect_err(to);
        let mut shown = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            shown.push_str(&format!(": {source}"));
        }
        assert!(shown.contains(expected), "{to}: {shown}");
        assert!(shown.contains("app1.yaml"), "{to}: {shown}");
    }
}

#[test]
fn monitors_have_presets_whose_numbers_may_be_changed_one_by_one() {
    let monitor = |keys: &str| {
        load_text(&format!("{GOOD}monitor: {{ {keys} }}\n"))
            .map(|c| c.monitor)
            .map_err(|e| e.to_string())
    };
    let lan = monitor("").unwrap();
    assert_eq!(lan, MonitorConfig::default());
    assert_eq!((lan.ping_type, lan.ping_failures), (PingType::Select, 2));
    let mha = monitor("preset: mha").unwrap();
    assert_eq!(mha.ping_interval, Duration::from_secs(3));
    assert_eq!(mha.ping_failures, 4);
    let mixed = monitor("preset: mha, ping_interval: 1s, ping_type: INSERT").unwrap();
    assert_eq!(mixed.ping_interval, Duration::from_secs(1));
    assert_eq!(
        (mixed.ping_type, mixed.ping_failures),
        (PingType::Insert, 4)
    );
    assert_eq!(
        monitor("ping_type: connect").unwrap().ping_type,
        PingType::Connect
    );
    for (keys, expected) in [
        (
            "ping_failures: 0",
            "monitor.ping_failures: expected a number",
        ),
        (
            "ping_interval: 3",
            "monitor.ping_interval: expected a duration",
        ),
        ("ping_intervall: 3s", "did you mean `ping_interval`?"),
        ("agent_heartbeat: 5ms", "monitor.agent_heartbeat: expected"),
        ("probe_timeout: 31s", "monitor.probe_timeout: expected"),
        (
            "host_limit: 700ms",
            "monitor.host_limit: expected more than three",
        ),
    ] {
        let error = monitor(keys).unwrap_err();
        assert!(error.contains(expected), "{keys}: {error}");
    }
    assert!(monitor("preset: wan").is_err());
    assert!(monitor("ping_type: UPDATE").is_err());
}

#[test]
fn not_acting_has_its_own_numbers() {
    let config = load_text(GOOD).unwrap();
    assert_eq!(
        config.failover.last_failover_window,
        Duration::from_secs(8 * 3600)
    );
    assert_eq!(config.failover.fleet_limit, 3);
    let text = GOOD.replacen(
        "save_timeout: 5s",
        "last_failover_window: 1h\n  fleet_limit: 7\n  fleet_window: 1m",
        1,
    );
    let policy = load_text(&text).unwrap().failover;
    assert_eq!(policy.last_failover_window, Duration::from_secs(3600));
    assert_eq!(policy.fleet_limit, 7);
    assert_eq!(policy.fleet_window, Duration::from_secs(60));
    let none = GOOD.replacen("save_timeout: 5s", "fleet_limit: 0", 1);
    assert!(
        load_text(&none)
            .unwrap_err()
            .to_string()
            .contains("failover.fleet_limit")
    );
}

#[test]
fn the_lease_is_on_and_can_be_switched_off() {
    let config = load_text(GOOD).unwrap();
    assert_eq!(config.lease, LeaseMode::Auto);
    assert_eq!(config.failover.lease_kill_time, Duration::from_millis(500));
    let with = |keys: &str| load_text(&format!("{keys}\n{GOOD}"));
    assert_eq!(with("lease: off").unwrap().lease, LeaseMode::Off);
    assert_eq!(with("lease: auto").unwrap().lease, LeaseMode::Auto);
    assert!(with("lease: always").is_err());
    let text = GOOD.replacen("save_timeout: 5s", "lease_kill_time: 2s", 1);
    let policy = load_text(&text).unwrap().failover;
    assert_eq!(policy.lease_kill_time, Duration::from_secs(2));
}

#[test]
fn one_server_is_no_cluster() {
    let text = GOOD
        .lines()
        .filter(|l| !l.contains("db2"))
        .collect::<Vec<_>>()
        .join("\n");
    let error = load_text(&text).unwrap_err().to_string();
    assert!(error.contains("at least two servers"), "{error}");
}

#[test]
fn password_files_of_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "secret\nsecond line\n").unwrap();
    let config = dir.path().join("app1.yaml");
    std::fs::write(
        &config,
        format!("{GOOD}monitor: {{ user: mha, password_file: password }}\n"),
    )
    .unwrap();
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o640)).unwrap();
    assert!(matches!(
        load(&config),
        Err(ConfigError::SecretMode { mode: 0o640, .. })
    ));
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
    let loaded = load(&config).unwrap();
    let secret = loaded.monitor.password.unwrap();
    assert_eq!(secret.reveal(), "secret");
    assert!(!format!("{secret:?}").contains("secret\""));
}

#[test]
fn missing_files_are_named() {
    let error = load(Path::new("/nonexistent/app1.yaml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/app1.yaml"));
}

#[test]
fn addresses_are_host_and_port() {
    for (text, good) in [
        ("db1:3306", true),
        ("127.0.0.1:3306", true),
        ("[::1]:3306", true),
        ("db1", false),
        ("db1:0", false),
        ("db1:x", false),
        (":3306", false),
        ("a b:3306", false),
        ("a:b:3306", false),
    ] {
        assert_eq!(text.parse::<HostPort>().is_ok(), good, "{text}");
    }
    assert_eq!(
        "[::1]:1".parse::<HostPort>().unwrap().to_string(),
        "[::1]:1"
    );
}

#[test]
fn a_virtual_ip_belongs_on_the_common_interface_or_on_the_servers_own() {
    assert_eq!(load_text(GOOD).unwrap().virtual_ip, None);
    let with = |ip: &str, second: &str| {
        let text = GOOD.replace("ignore_fail: true", second);
        load_text(&format!("{text}virtual_ip: {ip}\n"))
    };
    let config = with(
        "{ address: 192.0.2.100/24, interface: eth0 }",
        "virtual_ip_interface: bond0",
    )
    .unwrap();
    let at = |server: &str| {
        config
            .virtual_ip
            .as_ref()?
            .at(server)
            .map(ToString::to_string)
    };
    assert_eq!(at("db1:3306").unwrap(), "192.0.2.100/24 on eth0");
    assert_eq!(at("db2:3306").unwrap(), "192.0.2.100/24 on bond0");
    assert_eq!(at("db3:3306"), None);
    let table = [
        (
            "{ address: 192.0.2.100, interface: eth0 }",
            "ignore_fail: true",
            "no prefix length",
        ),
        (
            "{ address: 192.0.2.100/24 }",
            "ignore_fail: true",
            "virtual_ip.interface",
        ),
        (
            "{ address: 192.0.2.100/24 }",
            "virtual_ip_interface: eth0",
            "virtual_ip.interface",
        ),
        (
            "{ adress: 192.0.2.100/24 }",
            "ignore_fail: true",
            "did you mean `address`?",
        ),
    ];
    for (ip, second, words) in table {
        let error = with(ip, second).unwrap_err();
        let text = crate::observe::chain(&error);
        assert!(text.contains(words), "{ip}: {text}");
    }
    let lonely = GOOD.replace("ignore_fail: true", "virtual_ip_interface: eth0");
    let error = load_text(&lonely).unwrap_err().to_string();
    assert!(error.contains("there is no virtual_ip"), "{error}");
}

/// An authority, a certificate of it and its key, a key of somebody else, and a password.
fn folder_with_keys() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["m1.example".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    for (name, text, mode) in [
        ("ca.pem", cert.pem(), 0o644),
        ("cert.pem", cert.pem(), 0o644),
        ("key.pem", key.serialize_pem(), 0o600),
        ("open.pem", key.serialize_pem(), 0o640),
        ("other.pem", other.serialize_pem(), 0o600),
        ("empty.pem", String::new(), 0o600),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

fn monitor_tls(folder: &Path, keys: &str) -> Result<MysqlTls, ConfigError> {
    let path = folder.join("app1.yaml");
    let text = format!("{GOOD}monitor: {{ {keys} }}\n");
    resolved::resolve(&path, parse(&path, &text)?, &Default::default())
        .map(|config| config.monitor.tls)
}

#[test]
fn tls_to_mysql_is_what_the_keys_say_and_its_files_are_read_once() {
    let folder = folder_with_keys();
    let tls = |keys: &str| monitor_tls(folder.path(), keys).unwrap();
    assert_eq!(tls(""), MysqlTls::OFF);
    assert_eq!(tls("ssl_mode: preferred").mode, SslMode::Preferred);
    let required = tls("ssl_mode: REQUIRED, ssl_cert: cert.pem, ssl_key: key.pem");
    assert_eq!(required.mode, SslMode::Required);
    assert!(required.client.is_some());
    assert!(!format!("{required:?}").contains("PRIVATE KEY"));
    let verified = tls("ssl_mode: VERIFY_IDENTITY, ssl_ca: ca.pem, ssl_server_name: db.example");
    let pem = std::fs::read(folder.path().join("ca.pem")).unwrap();
    assert_eq!(verified.ca, Some(pem));
    assert_eq!(verified.server_name.as_deref(), Some("db.example"));
}

#[test]
fn tls_to_mysql_that_would_not_do_what_it_seems_to_is_refused() {
    let folder = folder_with_keys();
    for (keys, expected) in [
        ("ssl_mode: VERIFY_CA, ssl_ca: ca.pem", "ssl_server_name"),
        ("ssl_mode: sometimes", "line 10"),
        (
            "ssl_mode: VERIFY_IDENTITY",
            "monitor.ssl_ca: expected a PEM file",
        ),
        (
            "ssl_mode: VERIFY_IDENTITY, ssl_ca: absent.pem",
            "absent.pem: cannot be read",
        ),
        (
            "ssl_mode: VERIFY_IDENTITY, ssl_ca: key.pem",
            "with X.509 certificates",
        ),
        (
            "ssl_mode: VERIFY_IDENTITY, ssl_ca: empty.pem",
            "with X.509 certificates",
        ),
        (
            "ssl_mode: REQUIRED, ssl_ca: ca.pem",
            "nothing else verifies",
        ),
        (
            "ssl_ca: ca.pem",
            "monitor.ssl_ca: expected ssl_mode: VERIFY_IDENTITY",
        ),
        (
            "ssl_mode: PREFERRED, ssl_server_name: db",
            "monitor.ssl_server_name",
        ),
        (
            "ssl_mode: VERIFY_IDENTITY, ssl_ca: ca.pem, ssl_server_name: 'a b'",
            "a host name or an address",
        ),
        (
            "ssl_mode: REQUIRED, ssl_cert: cert.pem",
            "monitor.ssl_key: expected the key",
        ),
        (
            "ssl_mode: REQUIRED, ssl_key: key.pem",
            "monitor.ssl_cert: expected the certificate",
        ),
        (
            "ssl_cert: cert.pem, ssl_key: key.pem",
            "other than DISABLED",
        ),
        (
            "ssl_mode: REQUIRED, ssl_cert: cert.pem, ssl_key: open.pem",
            "mode 640",
        ),
        (
            "ssl_mode: REQUIRED, ssl_cert: cert.pem, ssl_key: other.pem",
            "the private key of",
        ),
        (
            "ssl_mode: REQUIRED, ssl_cert: cert.pem, ssl_key: cert.pem",
            "mode 644",
        ),
        (
            "ssl_mode: REQUIRED, ssl_cert: cert.pem, ssl_key: empty.pem",
            "private key",
        ),
        (
            "ssl_mode: REQUIRED, ssl_cert: empty.pem, ssl_key: key.pem",
            "an X.509 certificate",
        ),
    ] {
        let error = monitor_tls(folder.path(), keys).expect_err(keys);
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            message.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        assert!(
            message.contains(expected),
            "{keys}\n{message}\nwants {expected}"
        );
    }
}
