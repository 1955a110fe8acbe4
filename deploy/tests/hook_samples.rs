//! The sample hooks understand what the manager really passes, and end as the table in OPERATIONS says. Programs that
//! reach other hosts are stand-ins that write down how they were called and answer from a list.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use manager::hooks::{Call, Party, master_ip_failover, report, secondary_check, shutdown};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks")
}

fn party(host: &str, ip: &str) -> Party {
    Party {
        host: host.into(),
        ip: ip.into(),
        port: 3306,
        ssh_user: "mysql".into(),
        ssh_host: host.into(),
        ssh_ip: ip.into(),
        ssh_port: 22,
        master_pid_file: None,
    }
}

/// Each line of `answers/NAME` is an exit code and a text for one call; without a line it ends with 0.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
name=$(basename "$0")
if [ "$name" = mail ]; then cat > "$here/mailed"; fi
printf '%s' "$name" >> "$here/calls"
for argument in "$@"; do printf ' [%s]' "$argument" >> "$here/calls"; done
echo >> "$here/calls"
answers="$here/answers/$name"
if [ -s "$answers" ]; then
    read -r code text < "$answers"
    tail -n +2 "$answers" > "$answers.rest"
    mv "$answers.rest" "$answers"
    echo "$text"
    exit "$code"
fi
"#;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new(answers: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("answers")).unwrap();
        for name in ["ssh", "ping", "ipmitool", "mail", "sleep"] {
            let path = dir.path().join(name);
            fs::write(&path, STAND_IN).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (name, lines) in answers {
            fs::write(dir.path().join("answers").join(name), format!("{lines}\n")).unwrap();
        }
        Self { dir }
    }

    fn run(&self, sample: &str, own: &[&str], arguments: &[String]) -> i32 {
        let path = format!(
            "{}:{}",
            self.dir.path().display(),
            std::env::var("PATH").unwrap()
        );
        let output = Command::new(samples().join(sample))
            .args(own)
            .args(arguments)
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.status.code().unwrap()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default()
    }
}

#[test]
fn samples_can_be_run_and_are_shell() {
    let mut seen = 0;
    for entry in fs::read_dir(samples()).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{}: may be run", path.display());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#!/bin/sh\n"), "{}", path.display());
        let parsed = Command::new("sh").arg("-n").arg(&path).status().unwrap();
        assert!(parsed.success(), "{}", path.display());
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn the_address_moves_by_ssh() {
    let (dead, new) = (party("db1", "10.0.0.1"), party("db2", "10.0.0.2"));
    let mut elsewhere = new.clone();
    elsewhere.ssh_ip = "10.9.0.2".into();
    elsewhere.ssh_port = 2222;
    let status = master_ip_failover::status(&dead, None);
    let stopssh = master_ip_failover::stop(&dead, true, None);
    let stop = master_ip_failover::stop(&dead, false, None);
    let start = master_ip_failover::start(&dead, &new, None, None);
    let start_elsewhere = master_ip_failover::start(&dead, &elsewhere, None, None);
    type Row<'a> = (&'a Call, &'a [(&'a str, &'a str)], i32, &'a [&'a str]);
    let table: [Row<'_>; 9] = [
        (&status, &[], 0, &["[mysql@10.0.0.1]", "addr show"]),
        (&status, &[("ssh", "1")], 1, &[]),
        (
            &stopssh,
            &[],
            0,
            &["[mysql@10.0.0.1]", "addr del 10.0.0.9/24 dev eth0"],
        ),
        (&stopssh, &[("ssh", "255")], 10, &[]),
        (&stop, &[], 10, &[]),
        (
            &start,
            &[("ping", "1")],
            0,
            &[
                "[mysql@10.0.0.2]",
                "addr replace 10.0.0.9/24 dev eth0",
                "arping",
            ],
        ),
        // Somebody answers, and it is not the new primary.
        (&start, &[("ping", "0"), ("ssh", "1")], 1, &[]),
        (&start, &[("ping", "1"), ("ssh", "255")], 10, &[]),
        (
            &start_elsewhere,
            &[("ping", "1")],
            0,
            &["[-p] [2222] [mysql@10.9.0.2]"],
        ),
    ];
    for (call, answers, code, called) in table {
        let world = World::new(answers);
        let arguments = call.arguments();
        let found = world.run(
            "master_ip_failover",
            &["--vip=10.0.0.9/24", "--interface=eth0"],
            &arguments,
        );
        assert_eq!(found, code, "{arguments:?} {answers:?}\n{}", world.calls());
        for text in called {
            assert!(world.calls().contains(text), "{text} in\n{}", world.calls());
        }
    }
    // A second run finds the address where it is wanted.
    let world = World::new(&[("ping", "0"), ("ssh", "0")]);
    let own = ["--vip=10.0.0.9/24", "--interface=eth0"];
    assert_eq!(world.run("master_ip_failover", &own, &start.arguments()), 0);
    assert_eq!(world.run("master_ip_failover", &[], &start.arguments()), 1);
}

#[test]
fn power_is_off_only_if_the_board_says_so() {
    let mut dead = party("db1", "10.0.0.1");
    dead.master_pid_file = Some("/run/mysqld.pid".into());
    let status = shutdown::status(&dead, None);
    let stopssh = shutdown::stop(&dead, true, None);
    let stop = shutdown::stop(&dead, false, None);
    let on_then_off = "0\n0 Chassis Power is on\n0 Chassis Power is off";
    type Row<'a> = (&'a Call, &'a [(&'a str, &'a str)], i32, &'a [&'a str]);
    let table: [Row<'_>; 6] = [
        (&status, &[], 0, &["[-H] [10.0.9.1]"]),
        (&status, &[("ipmitool", "1")], 1, &[]),
        (&stopssh, &[], 10, &["cat '/run/mysqld.pid'"]),
        (
            &stopssh,
            &[("ssh", "255"), ("ipmitool", on_then_off)],
            0,
            &["[power] [off]", "[power] [status]"],
        ),
        (&stop, &[("ipmitool", on_then_off)], 0, &["[power] [off]"]),
        (&stop, &[], 1, &["[power] [status]"]),
    ];
    for (call, answers, code, called) in table {
        let world = World::new(answers);
        let arguments = call.arguments();
        let found = world.run("shutdown", &["--board=10.0.9.%s"], &arguments);
        assert_eq!(found, code, "{arguments:?} {answers:?}\n{}", world.calls());
        for text in called {
            assert!(world.calls().contains(text), "{text} in\n{}", world.calls());
        }
    }
    let world = World::new(&[]);
    assert_eq!(
        world.run("shutdown", &[], &stop.arguments()),
        1,
        "without a board nothing is off"
    );
}

#[test]
fn reports_are_mailed_as_they_are() {
    let told = report::Told {
        orig_master_host: "db1",
        new_master_host: Some("db2"),
        new_slave_hosts: &["db3".to_owned()],
        conf: Path::new("/etc/mha/manager.yaml"),
        subject: "app1: it's `$HOME`",
        body: "line 1\n  line $2",
    };
    let world = World::new(&[]);
    let arguments = report::call(&told).arguments();
    assert_eq!(
        world.run("report", &["--to=dba@example.org"], &arguments),
        0
    );
    assert_eq!(
        world.calls(),
        "mail [-s] [app1: it's `$HOME`] [dba@example.org]\n"
    );
    let mailed = fs::read_to_string(world.dir.path().join("mailed")).unwrap();
    assert_eq!(mailed, "line 1\n  line $2\n");
    let broken = World::new(&[("mail", "1")]);
    assert_eq!(broken.run("report", &[], &arguments), 1);
}

#[test]
fn other_hosts_are_asked_one_after_the_other() {
    let arguments =
        secondary_check::arguments(&party("db1", "10.0.0.1"), None, "SELECT", None).arguments();
    let hosts = ["-s", "app1", "-s", "app2"];
    for (answers, own, code, asked) in [
        ("0\n0", hosts.as_slice(), 0, 2),
        ("3\n0", &hosts, 3, 1),
        ("0\n3", &hosts, 3, 2),
        ("255\n3", &hosts, 2, 1),
        ("4\n3", &hosts, 2, 1),
        ("0", &["--secondary_host=app1"], 0, 1),
        ("0", &[], 1, 0),
    ] {
        let world = World::new(&[("ssh", answers)]);
        assert_eq!(
            world.run("secondary_check", own, &arguments),
            code,
            "{answers:?} {own:?}"
        );
        assert_eq!(world.calls().lines().count(), asked, "{answers:?} {own:?}");
    }
}

#[test]
fn settings_are_what_the_manager_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "a=b 'c'\nsecond line\n").unwrap();
    let output = Command::new(samples().join("init_conf_load"))
        .arg(&secret)
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "password=a=b 'c'\n");
    let absent = Command::new(samples().join("init_conf_load"))
        .arg(dir.path().join("absent"))
        .output()
        .unwrap();
    assert!(!absent.status.success());
}
