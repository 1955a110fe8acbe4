//! Tables of accepted and refused configurations.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::error::chain;

/// A folder with everything a configuration may name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, mode) in [
            ("ca.pem", 0o644),
            ("agent.pem", 0o644),
            ("agent.key", 0o600),
            ("password", 0o600),
            ("open-password", 0o640),
        ] {
            let path = folder.0.path().join(name);
            fs::write(&path, "hunter2\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(folder.0.path().join("data")).unwrap();
        folder
    }

    fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("node-agent.yaml"), self.0.path())
    }
}

const SERVER: &str = "servers: [{name: 'db1:3306', cluster: app1, socket: /run/mysqld.sock}]\n";

#[test]
fn a_short_configuration_gets_the_documented_defaults() {
    let folder = Folder::new();
    let config = folder
        .parse(&format!(
            "name: db1\nstate_dir: state\ntls: {{ca: ca.pem, cert: agent.pem, key: agent.key}}\n{SERVER}"
        ))
        .unwrap();
    assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0], 7306)));
    assert_eq!(config.segment_keep, Duration::from_secs(30 * 86_400));
    assert_eq!(config.state_dir, folder.0.path().join("state"));
    let server = config.server("db1:3306").unwrap();
    assert_eq!(server.user, None);
    assert_eq!(server.relay_keep, RelayKeep::default());
    assert_eq!(server.disk_probe, Some(Duration::from_secs(1)));
    assert_eq!(
        server.state_dir,
        folder.0.path().join("state/servers/db1_3306")
    );
    assert!(config.server("db2:3306").is_none());
    assert!(config.replay_faults.faults.is_empty());
}

#[test]
fn replay_faults_are_read_only_from_the_key_for_tests() {
    let folder = Folder::new();
    let parse = |testing: &str| {
        folder.parse(&format!(
            "name: db1\nlisten: 127.0.0.1:0\nplaintext: true\n{SERVER}testing: {testing}\n"
        ))
    };
    let config =
        parse("{replay_faults: [cut after 700 bytes, freeze 9 s after 30 events]}").unwrap();
    assert_eq!(config.replay_faults.faults.len(), 2);
    for refused in ["{replay_faults: [crash after 700 bytes]}", "{anything: 1}"] {
        assert!(
            matches!(parse(refused), Err(ConfigError::Syntax { .. })),
            "{refused}"
        );
    }
}

#[test]
fn a_full_configuration_is_taken_as_written() {
    let folder = Folder::new();
    let config = folder
        .parse(
            "name: db1
listen: 127.0.0.1:0
state_dir: /nonexistent/state
plaintext: true
segment_keep_days: 3
servers:
  - name: db1:3306
    cluster: app1
    socket: mysqld.sock
    user: mha_agent
    password_file: password
    replication_user: repl
    replication_password_file: password
    datadir: data
    relay_keep: { percent_of_disk: 20, days: 1 }
    disk_probe_ms: 0
  - { name: 'db1:3307', cluster: app2, socket: /run/2.sock }
",
        )
        .unwrap();
    assert_eq!(config.security, Security::PlainText);
    assert_eq!(config.servers.len(), 2);
    let server = &config.servers[0];
    assert_eq!(server.socket, folder.0.path().join("mysqld.sock"));
    assert_eq!(server.datadir, Some(folder.0.path().join("data")));
    assert_eq!(
        server.relay_keep,
        RelayKeep {
            percent_of_disk: 20,
            age: Duration::from_secs(86_400)
        }
    );
    assert_eq!(server.disk_probe, None);
    let secret = server.password_file.as_ref().unwrap().read().unwrap();
    assert_eq!(secret.expose(), "hunter2");
    assert_eq!(format!("{secret:?}"), "Secret(..)");
}

#[test]
fn bad_configurations_are_refused_with_the_key_or_the_line() {
    let folder = Folder::new();
    let plain = |rest: &str| format!("name: db1\nlisten: 127.0.0.1:0\nplaintext: true\n{rest}");
    let server = |rest: &str| {
        plain(&format!(
            "servers: [{{name: 'db1:3306', cluster: app1, socket: /s, {rest}}}]\n"
        ))
    };
    let table = [
        // Syntax: unknown, repeated, missing, mistyped.
        (
            plain(&format!("{SERVER}sevrers: 1\n")),
            "unknown field `sevrers`",
        ),
        (plain(&format!("{SERVER}sevrers: 1\n")), "line 5"),
        (server("pasword_file: x"), "unknown field `pasword_file`"),
        (server("relay_keep: {day: 1}"), "unknown field `day`"),
        (plain(&format!("{SERVER}name: db2\n")), "duplicate"),
        (plain(""), "at least one"),
        (
            plain("binlog_servers: [{name: b, cluster: c, directory: d, socket: /s}]"),
            "unknown field `socket`",
        ),
        (
            plain("binlog_servers: [{name: 'b/c', cluster: c, directory: d}]"),
            "binlog_servers[0].name",
        ),
        (
            plain("binlog_servers: [{name: b, cluster: 'C.', directory: d}]"),
            "name and binlog_servers[0].cluster",
        ),
        (
            plain(
                "servers: [{name: a, cluster: c, socket: /s}]\nbinlog_servers: [{name: a, cluster: c, directory: d}]",
            ),
            "\"a\" and \"a\" collide",
        ),
        (server("relay_keep: {days: many}"), "line 4"),
        (plain("servers: 5\n"), "line 4"),
        ("{".to_owned(), "node-agent.yaml"),
        // Security.
        (
            format!("name: db1\n{SERVER}"),
            "exactly one of `tls` and `plaintext: true`",
        ),
        (
            format!(
                "name: db1\nplaintext: true\ntls: {{ca: ca.pem, cert: agent.pem, key: agent.key}}\n{SERVER}"
            ),
            "exactly one of",
        ),
        (
            format!("name: db1\nplaintext: true\n{SERVER}"),
            "loopback address only; listen is 0.0.0.0:7306",
        ),
        (
            format!("name: db1\nlisten: 10.0.0.1:1\nplaintext: true\n{SERVER}"),
            "loopback",
        ),
        (
            format!("name: db1\ntls: {{ca: no.pem, cert: agent.pem, key: agent.key}}\n{SERVER}"),
            "tls.ca",
        ),
        (
            format!("name: db1\ntls: {{ca: ca.pem, cert: agent.pem, key: agent.pem}}\n{SERVER}"),
            "mode 0644",
        ),
        // Names.
        (
            format!("name: Db.1\nlisten: 127.0.0.1:0\nplaintext: true\n{SERVER}"),
            "name and servers[0].cluster",
        ),
        (
            plain("servers: [{name: '../x', cluster: app1, socket: /s}]"),
            "servers[0].name",
        ),
        (
            plain("servers: [{name: '', cluster: app1, socket: /s}]"),
            "servers[0].name",
        ),
        (
            plain("servers: [{name: a, cluster: 'a/b', socket: /s}]"),
            "bad identity",
        ),
        (
            plain("servers: [{name: a, cluster: '*', socket: /s}]"),
            "only managers",
        ),
        (plain("servers: []"), "at least one"),
        (
            plain(
                "servers: [{name: a, cluster: c, socket: /s}, {name: a, cluster: c, socket: /t}]",
            ),
            "\"a\" and \"a\" collide",
        ),
        (
            plain(
                "servers: [{name: 'a:1', cluster: c, socket: /s}, {name: a_1, cluster: c, socket: /t}]",
            ),
            "\"a:1\" and \"a_1\" collide",
        ),
        // Ranges and files.
        (
            plain(&format!("segment_keep_days: 0\n{SERVER}")),
            "segment_keep_days: 0 is not in 1..=3650",
        ),
        (
            server("relay_keep: {percent_of_disk: 91}"),
            "servers[0].relay_keep.percent_of_disk",
        ),
        (server("disk_probe_ms: 99"), "servers[0].disk_probe_ms"),
        (
            server("relay_keep: {days: 0}"),
            "servers[0].relay_keep.days",
        ),
        (server("user: u, password_file: open-password"), "mode 0640"),
        (
            server("user: u, password_file: absent"),
            "servers[0].password_file",
        ),
        (server("user: u, password_file: data"), "regular file"),
        (server("password_file: password"), "needs user"),
        (
            server("replication_password_file: password"),
            "needs replication_user",
        ),
        (server("datadir: absent"), "servers[0].datadir"),
        (plain(&format!("state_dir: ca.pem\n{SERVER}")), "state_dir"),
    ];
    for (text, expected) in table {
        let message = chain(&folder.parse(&text).expect_err(&text));
        assert!(
            message.contains(expected),
            "{text}\n{message}\nwants {expected}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn the_host_of_a_binlog_server_needs_no_mysqld() {
    let folder = Folder::new();
    let config = folder
        .parse("name: b1\nlisten: 127.0.0.1:0\nplaintext: true\nbinlog_servers: [{name: binlog1, cluster: app1, directory: copies}]")
        .unwrap();
    assert!(config.servers.is_empty());
    assert_eq!(config.clusters(), ["app1"]);
    let [binlog_server] = config.binlog_servers.as_slice() else {
        panic!("{:?}", config.binlog_servers)
    };
    assert_eq!(binlog_server.name, "binlog1");
    // It need not be there when the agent starts.
    assert_eq!(binlog_server.directory, folder.0.path().join("copies"));
}

#[test]
fn a_password_file_that_became_readable_is_refused_when_used() {
    let folder = Folder::new();
    let config = folder
        .parse("name: db1\nlisten: '[::1]:0'\nplaintext: true\nservers: [{name: a, cluster: c, socket: /s, user: u, password_file: password}]")
        .unwrap();
    let path = folder.0.path().join("password");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let error = config.servers[0].password_file.as_ref().unwrap().read();
    assert!(matches!(
        error,
        Err(ConfigError::SecretExposed { mode: 0o604, .. })
    ));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/a.yaml")).unwrap_err();
    assert!(chain(&error).contains("/nonexistent/a.yaml"));
}
