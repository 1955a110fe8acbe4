//! Logs that only the server can read: noticed while it lives, and a failover that would need them stops before it changes
//! anything, naming the file and why.

use node_agent::config::Config;
use node_agent::mysqld::{Endpoint, Session, observe};
use tests::sandbox::accounts::AGENT;
use tests::sandbox::deployment::server_name;
use tests::sandbox::{ClusterSpec, ServerKind};
use tests::scenario::before::Before;
use tests::scenario::{Failure, Lag, Plan, Scene, expect, expect_eq};

use std::path::Path;
use std::time::Duration;

/// Two keys of 128 bits, by number: what the plugin reads.
const KEYS: &str = "1;000102030405060708090a0b0c0d0e0f\n2;0f0e0d0c0b0a09080706050403020100\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_encrypt_binlog_of_mariadb_10_11() -> Result<(), Failure> {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, KEYS).unwrap();
    let spec = ClusterSpec::new(ServerKind::MariaDb1011)
        .replicas(1)
        .set_on(0, "plugin-load-add", "file_key_management")
        .set_on(0, "file-key-management-filename", keys.display())
        .set_on(0, "encrypt-binlog", 1);
    let mut scene = Scene::open(spec).await?;
    scene.play(&Plan::rows(&[Lag::behind(1)])).await?;

    let primary = scene.cluster.primary();
    let seen = settings(primary.socket().as_path()).await;
    expect_eq("what the agent notices", &seen, &Some("encrypt_binlog"))?;
    let seen = settings(scene.cluster.server(1).socket().as_path()).await;
    expect_eq("what it notices at the replica", &seen, &None)?;

    let before = Before::read(&scene.cluster).await?;
    scene.cluster.crash(0)?;
    let run = scene.mha()?.failover(primary, &[]).await?;
    expect(
        run.finished.code != Some(0) && run.finished.code != Some(10),
        "exit code",
        "of a refusal",
        run.text(),
    )?;
    for words in [
        "mysql-bin.000001 is encrypted",
        "encrypt_binlog is on",
        "server's keyring",
        "--accept-loss",
    ] {
        expect(run.mentions(words), "what was printed", words, run.text())?;
    }
    let replica = scene.cluster.server(1);
    before.channel_is_as_it_was(replica).await?;
    before.position_is_as_it_was(replica).await?;

    // The operator accepts it: what the replica has is what there is.
    let run = scene.mha()?.failover(primary, &["--accept-loss"]).await?;
    let name = server_name(replica);
    let promoted = run
        .report
        .as_ref()
        .and_then(|report| report.new_primary.clone());
    expect_eq("new primary", &promoted, &Some(name))?;
    expect(
        run.mentions("is encrypted"),
        "the report",
        "why",
        run.text(),
    )
}

async fn settings(socket: &Path) -> Option<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, AGENT.password).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&password, private).unwrap();
    let text = format!(
        "name: db1\nlisten: 127.0.0.1:0\nplaintext: true\nservers: [{{name: db1, cluster: app1, socket: {}, user: {}, password_file: password}}]\n",
        socket.display(),
        AGENT.user
    );
    let config = Config::parse(&text, Path::new("node-agent.yaml"), folder.path()).unwrap();
    let endpoint = Endpoint::from_config(config.server("db1").unwrap()).unwrap();
    let limit = Duration::from_secs(60);
    let mut session = Session::connect(&endpoint, limit).await.unwrap();
    let alive = observe::read(&mut session, limit).await.unwrap();
    alive.settings.log_encryption
}
