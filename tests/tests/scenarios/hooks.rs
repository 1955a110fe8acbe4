//! All of MHA's scripts around one failover of real servers: what each was told, word by word, in MHA's order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use manager::hooks::{self, SecondaryCheck};
use serde_json::json;
use tests::sandbox::deployment::{Deployment, DeploymentSpec};
use tests::sandbox::load;
use tests::sandbox::{ClusterSpec, Server, ServerKind, replica, tool};

use crate::support::{self, Outcome};

/// Appends its name and arguments to `calls`; answers as MHA's samples do.
const RECORDER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
line=$MHA_HOOK
for argument in "$@"; do
    case $argument in
        --body=*) printf '%s' "${argument#--body=}" > body ;;
        *) line="$line $argument" ;;
    esac
done
echo "$line" >> calls
cat > "stdin-$MHA_HOOK-$MHA_COMMAND"
case "$MHA_HOOK $MHA_COMMAND" in
    init_conf_load_script*) echo user=admin; echo "password='let me in'" ;;
    "shutdown_script stopssh") exit 10 ;;
esac
"#;

const LIMIT: Duration = Duration::from_secs(60);

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_is_told_what_mha_would_tell_it() -> Outcome {
    let cluster = support::start(ClusterSpec::new(ServerKind::MySql56)).await?;
    load::prepare(cluster.primary()).await?;
    cluster.wait_caught_up().await?;
    let dir = cluster.dir().join("hooks");
    fs::create_dir(&dir).unwrap();
    let recorder = dir.join("recorder");
    fs::write(&recorder, RECORDER).unwrap();
    fs::set_permissions(&recorder, fs::Permissions::from_mode(0o755)).unwrap();
    let spec = DeploymentSpec::default()
        .candidate(1, "preferred")
        .hooks(json!({
            "master_ip_failover_script": format!("{} --vip=10.9.8.7", recorder.display()),
            "shutdown_script": [recorder],
            "report_script": recorder,
            "secondary_check_script": { "command": recorder, "timeout": "20s" },
            "init_conf_load_script": recorder,
            "ssh": { "user": "mysql", "port": 2222 },
            "mha_compat": { "hooks": ["master_ip_failover_script"] },
        }));
    let deployment = Deployment::start(&cluster, &spec).await?;
    let (dead, new, other) = (cluster.server(0), cluster.server(1), cluster.server(2));

    // The manager's start, while the primary lives.
    let mut check = Command::new(&deployment.binaries().manager);
    check
        .arg("check-hooks")
        .arg("--config")
        .arg(deployment.manager_config())
        .args(["--primary", &dead.host_port()]);
    let checked = tool::finish(check, None, LIMIT)?;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(
        checked
            .stdout
            .contains("shutdown_script: --command=status ended with 0"),
        "{}",
        checked.stdout
    );

    // Its last rows are on its own disk only.
    cluster.hold_here(1).await?;
    cluster.hold_here(2).await?;
    dead.exec("CREATE TABLE app.last (id INT PRIMARY KEY)")
        .await?;
    dead.exec("INSERT INTO app.last VALUES (1), (2)").await?;
    cluster.crash(0)?;

    // The first failed ping.
    let config = manager::config::load(deployment.manager_config()).unwrap();
    let primary = config.find(&dead.host_port()).unwrap();
    let second = hooks::secondary_check(&config, primary, "SELECT", &|_| {}).await;
    assert_eq!(second, SecondaryCheck::UnreachableFromAll);

    let run = deployment.failover(dead, &[]).await?;
    run.must_end_with(0);

    let at = |server: &Server| (server.address().to_string(), server.port());
    let ((dead_host, dead_port), (new_host, new_port)) = (at(dead), at(new));
    let other_host = at(other).0;
    let conf = deployment.manager_config().display().to_string();
    let orig = format!(
        "--orig_master_host={dead_host} --orig_master_ip={dead_host} --orig_master_port={dead_port}"
    );
    let expected = [
        "init_conf_load_script".to_owned(),
        format!(
            "master_ip_failover_script --vip=10.9.8.7 --command=status --ssh_user=mysql {orig} --orig_master_ssh_port=2222"
        ),
        format!(
            "shutdown_script --command=status --ssh_user=mysql --host={dead_host} --ip={dead_host} --ssh_port=2222"
        ),
        "init_conf_load_script".to_owned(),
        format!(
            "secondary_check_script --user=mysql --master_host={dead_host} --master_ip={dead_host} --master_port={dead_port} --ping_type=SELECT"
        ),
        "init_conf_load_script".to_owned(),
        format!(
            "master_ip_failover_script --vip=10.9.8.7 {orig} --command=stopssh --ssh_user=mysql --orig_master_ssh_port=2222"
        ),
        format!(
            "shutdown_script --command=stopssh --ssh_user=mysql --host={dead_host} --ip={dead_host} --port={dead_port} --ssh_port=2222"
        ),
        format!(
            "master_ip_failover_script --vip=10.9.8.7 --command=start --ssh_user=mysql {orig} --new_master_host={new_host} --new_master_ip={new_host} --new_master_port={new_port} --new_master_user=admin --new_master_password=let me in --orig_master_ssh_port=2222 --new_master_ssh_port=2222"
        ),
        format!(
            "report_script --orig_master_host={dead_host} --new_master_host={new_host} --new_slave_hosts={other_host} --conf={conf} --subject=app1: MySQL Master failover {dead_host}({dead_host}:{dead_port}) to {new_host}({new_host}:{new_port}) succeeded"
        ),
    ];
    let calls = read(&dir, "calls");
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls, expected);

    let told: serde_json::Value =
        serde_json::from_str(&read(&dir, "stdin-master_ip_failover_script-start")).unwrap();
    assert_eq!(told["new_master_password"], "let me in");
    assert_eq!(told["new_master_port"], new_port);
    assert_eq!(told["cluster"], "app1");
    let body = read(&dir, "body");
    assert!(body.contains("Proof: PROVEN"), "{body}");
    assert!(!run.text().contains("let me in"));

    for survivor in [new, other] {
        let rows = survivor.value("SELECT COUNT(*) FROM app.last").await?;
        assert_eq!(rows, "2", "{}", survivor.name());
    }
    replica::wait_executed(other, &replica::binlog_end(new).await?).await?;
    support::one_primary(&[new, other]).await
}
