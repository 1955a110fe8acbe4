//! Every file an operator copies is one that the programs accept.

// Helpers of an integration test are not inside `#[test]` functions, which the lints exempt by themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use manager::config::SslMode;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Copies an example into a private folder in which everything it refers to below /etc/mha exists.
fn installed(example: &str, private: &Path) -> PathBuf {
    let text = read(&folder("config").join(example));
    let etc = private.join("etc");
    for word in text.split_whitespace() {
        if let Some(rest) = word.strip_prefix("/etc/mha/") {
            let path = etc.join(rest);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "secret\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    let path = private.join(example);
    let text = text.replace("/etc/mha", etc.to_str().unwrap());
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_agent_accepts_its_example() {
    let private = tempfile::tempdir().unwrap();
    let config =
        node_agent::config::Config::load(&installed("node-agent.yaml", private.path())).unwrap();
    assert_eq!(config.name, "db1");
    assert_eq!(config.servers[0].name, "db1:3306");
}

#[test]
fn the_manager_accepts_its_example() {
    let private = tempfile::tempdir().unwrap();
    let config = manager::config::load(&installed("manager.yaml", private.path())).unwrap();
    assert_eq!(config.cluster, "app1");
    assert_eq!(config.servers.len(), 3);
    assert_eq!(config.hooks.commands.len(), 4);
    for command in config.hooks.commands.values() {
        let sample = Path::new(&command.program).file_name().unwrap();
        assert!(
            folder("hooks").join(sample).is_file(),
            "{} is shipped",
            command.program
        );
    }
}

#[test]
fn units_have_the_sections_of_a_service_and_start_our_binaries() {
    let mut seen = 0;
    for entry in fs::read_dir(folder("systemd")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let mut sections = BTreeSet::new();
        let mut starts = None;
        for (number, line) in read(&path).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                sections.insert(section.to_owned());
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .unwrap_or_else(|| panic!("{}:{}: {line}", path.display(), number + 1));
            if key == "ExecStart" {
                starts = value.split_whitespace().next().map(str::to_owned);
            }
        }
        for wanted in ["Unit", "Service", "Install"] {
            assert!(sections.contains(wanted), "{}: [{wanted}]", path.display());
        }
        let binary = starts.unwrap_or_else(|| panic!("{}: no ExecStart", path.display()));
        assert!(
            ["/usr/bin/mha-node-agent", "/usr/bin/mha-manager"].contains(&binary.as_str()),
            "{}: {binary}",
            path.display()
        );
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn the_drop_in_gives_what_the_agent_asks_for_and_nothing_else() {
    let text = read(&folder("systemd/mha-node-agent.service.d/virtual-ip.conf"));
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert_eq!(
        lines,
        [
            "[Service]",
            "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW",
            "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW",
        ]
    );
    let lacking = node_agent::address::AddressError::Capabilities(vec!["CAP_NET_RAW"]);
    assert!(
        lacking
            .to_string()
            .contains("mha-node-agent.service.d/virtual-ip.conf"),
        "{lacking}"
    );
}

#[test]
fn the_manager_accepts_the_virtual_ip_of_its_example() {
    let private = tempfile::tempdir().unwrap();
    let path = installed("manager.yaml", private.path());
    let text = read(&path);
    let off = manager::config::load(&path).unwrap();
    assert_eq!(off.virtual_ip, None, "off unless somebody asks for it");
    let on = text
        .replace("# virtual_ip: ", "virtual_ip: ")
        .replace("# virtual_ip_interface: ", "virtual_ip_interface: ");
    assert_ne!(on, text);
    fs::write(&path, on).unwrap();
    let config = manager::config::load(&path).unwrap();
    let at = |server: &str| config.virtual_ip.as_ref().unwrap().at(server).unwrap();
    assert_eq!(at("db1:3306").interface, "eth0");
    assert_eq!(at("db2:3306").interface, "bond0");
}

#[test]
fn both_accept_the_binlog_server_of_their_examples() {
    let on = |example: &str, folder: &Path| {
        let path = installed(example, folder);
        let text = read(&path);
        let on = text.replace("# binlog_servers:\n#   -", "binlog_servers:\n  -");
        assert_ne!(on, text, "{example}: off unless somebody asks for it");
        fs::write(&path, on).unwrap();
        path
    };
    let private = tempfile::tempdir().unwrap();
    let manager = manager::config::load(&on("manager.yaml", private.path())).unwrap();
    let agent = node_agent::config::Config::load(&on("node-agent.yaml", private.path())).unwrap();
    let (ours, theirs) = (&manager.binlog_servers, &agent.binlog_servers);
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    assert_eq!(ours[0].name, theirs[0].name);
    assert_eq!(manager.cluster, theirs[0].cluster);
}

#[test]
fn the_manager_accepts_the_tls_to_mysql_of_its_example() {
    let private = tempfile::tempdir().unwrap();
    let path = installed("manager.yaml", private.path());
    let off = manager::config::load(&path).unwrap();
    assert_eq!(off.monitor.tls.mode, SslMode::Disabled);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["db1.example.org".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let tls = private.path().join("etc/tls");
    for name in ["mysql-ca.pem", "monitor-cert.pem"] {
        fs::write(tls.join(name), &certificate).unwrap();
    }
    fs::write(tls.join("monitor-key.pem"), key.serialize_pem()).unwrap();
    let text = read(&path);
    let on = text.replace("  # ssl_", "  ssl_");
    assert_eq!(on.matches("\n  ssl_").count(), 5);
    fs::write(&path, on).unwrap();
    let on = manager::config::load(&path).unwrap().monitor.tls;
    assert_eq!(on.mode, SslMode::VerifyIdentity);
    assert!(on.ca.is_some() && on.client.is_some() && on.server_name.is_some());
}

#[test]
fn the_modes_of_the_operator_docs_are_those_of_the_program() {
    let text = read(&folder("OPERATIONS.md"));
    for mode in [
        SslMode::Disabled,
        SslMode::Preferred,
        SslMode::Required,
        SslMode::VerifyIdentity,
    ] {
        assert!(text.contains(&format!("\n| `{}`", mode.name())), "{mode:?}");
    }
}

/// Commands of the operator docs are the commands of the programs: each is parsed, none is run.
#[test]
fn every_command_of_the_operator_docs_parses() {
    let text = read(&folder("OPERATIONS.md"));
    let mut seen = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let command = match words.first() {
            Some(&"mha-manager") => manager::cli::command(),
            Some(&"mha-node-agent") => node_agent::cli::command(),
            _ => continue,
        };
        command
            .try_get_matches_from(&words)
            .unwrap_or_else(|e| panic!("{line}\n{e}"));
        seen.extend(words.get(1).map(|word| (*word).to_owned()));
    }
    for wanted in [
        "failover",
        "release",
        "save-binary-logs",
        "find-relay-log",
        "generate-diff",
        "join",
        "inspect",
        "apply",
    ] {
        assert!(seen.contains(wanted), "no example of {wanted} in {seen:?}");
    }
}
