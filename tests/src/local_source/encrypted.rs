//! Encrypted binary logs: the agent notices while the server lives, and what reads the files says why it cannot.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use binlog_core::{BinaryLogs, LogError};
use node_agent::mysqld::{Endpoint, Session, observe};

use super::{Bench, Seen, Trouble};
use crate::sandbox::launch::{Launch, Process};
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, Server, fetch};

/// Two keys of 128 bits, by number: what MariaDB's plugin reads.
const KEYS: &str = "1;000102030405060708090a0b0c0d0e0f\n2;0f0e0d0c0b0a09080706050403020100\n";
/// What a mysqld reads beside itself.
const MANIFEST: &str = r#"{"components": "file://component_keyring_file"}"#;
const LIMIT: Duration = Duration::from_secs(60);

/// `encrypt_binlog` with keys in a file. The server is a further one, beside the two of the bench and for a moment.
pub(super) async fn of_mariadb(bench: &Bench) -> Result<Seen, Trouble> {
    let keys = bench.file("keys", KEYS)?;
    let spec = ClusterSpec::new(bench.kind())
        .replicas(0)
        .set("plugin-load-add", "file_key_management")
        .set("file-key-management-filename", keys.display())
        .set("encrypt-binlog", 1);
    let cluster = Cluster::start(spec).await?;
    look(cluster.primary(), "encrypt_binlog").await
}

/// `binlog_encryption` with a keyring in a file. The keyring is a component that is named in a manifest beside mysqld, so
/// that a private copy of the program is run.
pub(super) async fn of_mysql(bench: &Bench) -> Result<Seen, Trouble> {
    let kind = bench.kind();
    let cluster = Cluster::start(ClusterSpec::new(kind).replicas(0)).await?;
    let server = cluster.primary();
    server.stop().await?;
    let folder = server.dir().join("private");
    let mysqld = folder.join("mysqld");
    let target = folder.clone();
    let keyring = server.dir().join("keyring");
    let config = format!(r#"{{"path": "{}", "read_only": false}}"#, keyring.display());
    let distribution = tokio::task::spawn_blocking(move || {
        let distribution = fetch::ensure(kind)?;
        std::fs::create_dir(&target).map_err(SandboxError::io("make", &target))?;
        let program = target.join("mysqld");
        std::fs::copy(&distribution.mysqld, &program)
            .map_err(SandboxError::io("make", &program))?;
        let manifest = target.join("mysqld.my");
        std::fs::write(&manifest, MANIFEST).map_err(SandboxError::io("make", &manifest))?;
        let component = "component_keyring_file.so";
        if let Some(plugins) = &distribution.plugin_dir {
            let copy = target.join(component);
            std::fs::copy(plugins.join(component), &copy)
                .map_err(SandboxError::io("make", &copy))?;
        }
        let settings = target.join("component_keyring_file.cnf");
        std::fs::write(&settings, config).map_err(SandboxError::io("make", &settings))?;
        Ok::<_, SandboxError>(distribution)
    })
    .await
    .map_err(|_| Trouble::lacks("a private copy of mysqld"))??;
    let (program, mut arguments) = distribution.program();
    let program = if arguments.pop().is_some() {
        arguments.push(mysqld.into_os_string());
        program
    } else {
        mysqld
    };
    let option = |text: String| OsString::from(text);
    arguments.push(option(format!(
        "--defaults-file={}",
        server.config_file().display()
    )));
    arguments.push(option(format!("--plugin-dir={}", folder.display())));
    arguments.push(option("--binlog-encryption=ON".to_owned()));
    let process = Process::start(&Launch {
        name: server.name().to_owned(),
        program,
        arguments,
        environment: distribution.environment(),
        log: server.error_log(),
    })?;
    let began = Instant::now();
    while server.admin().await.is_err() {
        if process.ended()?.is_some() || began.elapsed() > LIMIT {
            return Err(process.not_ready("did not answer".to_owned()).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    look(server, "binlog_encryption").await
}

async fn look(server: &Server, variable: &str) -> Result<Seen, Trouble> {
    server.exec("CREATE DATABASE e").await?;
    let endpoint = Endpoint {
        server: server.name().to_owned(),
        socket: server.socket(),
        user: "root".to_owned(),
        password: None,
    };
    let lacks = |_| Trouble::lacks("an answer to the agent's questions");
    let mut session = Session::connect(&endpoint, LIMIT).await.map_err(lacks)?;
    let alive = observe::read(&mut session, LIMIT).await.map_err(lacks)?;
    let noticed = alive.settings.log_encryption;
    let base = server.binlog_base();
    let read =
        tokio::task::spawn_blocking(move || BinaryLogs::open(&base)?.survey(None).map(|_| ()));
    let read = read
        .await
        .map_err(|_| Trouble::lacks("a look at the files"))?;
    let (refused, said) = match &read {
        Err(error @ LogError::Encrypted { .. }) => {
            let text = error.to_string();
            let name = text.rfind('/').map_or(0, |slash| slash + 1);
            (true, text.get(name..).unwrap_or_default().to_owned())
        }
        Err(error) => (false, error.to_string()),
        Ok(()) => (false, "it was read".to_owned()),
    };
    Ok(Seen::relied(
        noticed == Some(variable) && refused,
        format!("the agent notices {noticed:?}; a reader says: {said}"),
    ))
}
