//! How manager and agent log in to real servers: with and without TLS, verified or not, with each kind of account; and that what
//! does not fit is told, never gone round.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use manager::config::ClusterConfig;
use manager::observe;
use manager::verdict::Ping;
use node_agent::config::Config;
use node_agent::mysqld::{Endpoint, Session, SqlError, account};
use tests::sandbox::accounts::AGENT;
use tests::sandbox::binaries;
use tests::sandbox::{ClusterSpec, Server, ServerKind};

use crate::support::{self, Outcome, Running};

const OPERATIONS: &str = include_str!("../../../deploy/OPERATIONS.md");
const LIMIT: Duration = Duration::from_secs(60);
const PASSWORD: &str = "o'pen \\ sesame";

/// Certificates and files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        proto::tls::install_crypto_provider();
        let files = Self(tempfile::tempdir().unwrap());
        files.write("password", PASSWORD);
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// An authority, and a certificate of it for `db1.app1.agent.mha` and this address: what operators make for agents.
    async fn certificates(&self, folder: &str, host: &str) {
        let dir = self.at(folder);
        let issue = format!("issue --cluster app1 --role agent --name db1 --host {host}");
        for arguments in ["init", issue.as_str()] {
            let mut command = Command::new(&binaries::ensure().await.unwrap().manager);
            command.arg("certs").args(arguments.split(' '));
            let done = command.arg("--dir").arg(&dir).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
    }

    /// Pings as a manager does that has these keys in `monitor:`.
    async fn ping(&self, server: &Server, user: &str, keys: &str) -> Ping {
        let text = format!(
            "cluster: app1\nplaintext: true\nservers:\n\
             - {{name: db1, host: {}, port: {}, agent: '127.0.0.1:1'}}\n\
             - {{name: db2, host: nowhere.example, agent: '127.0.0.1:2'}}\n\
             monitor: {{user: {user}, password_file: password, ping_timeout: 60s, {keys}}}\n",
            server.address(),
            server.port()
        );
        let config: ClusterConfig =
            manager::config::load(&self.write("manager.yaml", &text)).unwrap();
        observe::ping(&config.servers[0].address, &config.monitor).await
    }

    /// Logs in as an agent does with these keys of its server.
    async fn agent(&self, server: &Server, keys: &str) -> Result<String, SqlError> {
        let mut session = self.session(server, keys).await?;
        let user = session.query_value("SELECT CURRENT_USER()", LIMIT).await?;
        Ok(user.unwrap_or_default())
    }

    async fn session(&self, server: &Server, keys: &str) -> Result<Session, SqlError> {
        let text = format!(
            "name: db1\nlisten: 127.0.0.1:0\nplaintext: true\nservers: [{{name: 'db1:3306', cluster: app1, socket: {}{keys}}}]\n",
            server.socket().display()
        );
        let config = Config::parse(&text, Path::new("node-agent.yaml"), self.0.path()).unwrap();
        let endpoint = Endpoint::from_config(&config.servers[0]).unwrap();
        Session::connect(&endpoint, LIMIT).await
    }
}

/// A server of its own for one test.
async fn single(kind: ServerKind) -> Result<Running, tests::sandbox::SandboxError> {
    support::start(ClusterSpec::new(kind).replicas(0)).await
}

fn os_user() -> String {
    let uid = nix::unistd::Uid::effective();
    nix::unistd::User::from_uid(uid).unwrap().unwrap().name
}

fn answered(what: &str, ping: &Ping) {
    assert_eq!(*ping, Ping::Answered, "{what}");
}

/// It lives, and says so with this error and these words.
fn refused(what: &str, ping: &Ping, number: u16, words: &str) {
    let Ping::AnsweredError { errno, text } = ping else {
        panic!("{what}: {ping:?}")
    };
    assert_eq!(*errno, number, "{what}: {text}");
    assert!(text.contains(words), "{what}: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_9_7_over_tls_and_by_socket() -> Outcome {
    let mut cluster = single(ServerKind::MySql97).await?;
    let files = Files::new();
    let address = cluster.primary().address().to_string();
    files.certificates("ours", &address).await;
    files.certificates("theirs", &address).await;
    let (cert, key) = (files.at("ours/db1.pem"), files.at("ours/db1.key"));
    let server = cluster.cluster.server_mut(0);
    server.reconfigure(|options| {
        options
            .set("ssl-ca", files.at("ours/ca.pem").display())
            .set("ssl-cert", cert.display())
            .set("ssl-key", key.display())
    })?;
    server.stop().await?;
    server.start().await?;
    let server = cluster.primary();
    let password = PASSWORD.replace('\\', "\\\\").replace('\'', "\\'");
    for (user, require) in [
        ("plain", ""),
        ("tls", "REQUIRE SSL"),
        ("x509", "REQUIRE X509"),
    ] {
        let identified = format!("IDENTIFIED WITH caching_sha2_password BY '{password}'");
        server
            .exec(&format!("CREATE USER {user}@'%' {identified} {require}"))
            .await?;
    }
    let ping = |user, keys| files.ping(server, user, keys);
    let verify = "ssl_mode: VERIFY_IDENTITY, ssl_ca: ours/ca.pem";

    // The password by the server's RSA key, then by the cache, then inside TLS.
    for what in ["in full", "from the cache"] {
        answered(what, &ping("plain", "").await);
    }
    server.exec("FLUSH PRIVILEGES").await?;
    answered(
        "in full inside TLS",
        &ping("plain", "ssl_mode: REQUIRED").await,
    );
    answered("verified", &ping("tls", verify).await);
    let by_name = format!("{verify}, ssl_server_name: db1.app1.agent.mha");
    answered("verified by another name", &ping("tls", &by_name).await);
    answered("preferred", &ping("tls", "ssl_mode: PREFERRED").await);
    let shown = "ssl_mode: REQUIRED, ssl_cert: ours/db1.pem, ssl_key: ours/db1.key";
    answered("with a certificate", &ping("x509", shown).await);

    refused("no TLS", &ping("tls", "").await, 1045, "Access denied");
    let without = ping("x509", "ssl_mode: REQUIRED").await;
    refused("no certificate", &without, 1045, "Access denied");
    let theirs = ping("plain", "ssl_mode: VERIFY_IDENTITY, ssl_ca: theirs/ca.pem").await;
    refused("another authority", &theirs, 0, "certificate");
    let wrong = format!("{verify}, ssl_server_name: db2.app1.agent.mha");
    let wrong = ping("plain", &wrong).await;
    refused("another name", &wrong, 0, "not valid for name");
    server
        .exec("SET GLOBAL require_secure_transport=ON")
        .await?;
    refused(
        "insecure",
        &ping("plain", "").await,
        3159,
        "insecure transport",
    );
    files.write("password", "wrong");
    refused("wrong", &ping("tls", verify).await, 1045, "Access denied");

    // The agent, through the socket, which counts as secure.
    files.write("password", PASSWORD);
    let keys = ", user: plain, password_file: password";
    assert_eq!(files.agent(server, keys).await.unwrap(), "plain@%");
    let install = "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'";
    assert!(OPERATIONS.contains(install));
    server.exec(install).await?;
    who_may_end_sessions(&files, server, keys).await?;
    by_socket(&files, server, "WITH auth_socket").await
}

/// What the agent's account lacks is told before the server refuses it, and the statement that is told mends it.
async fn who_may_end_sessions(files: &Files, server: &Server, keys: &str) -> Outcome {
    files.write("shipped", AGENT.password);
    let shipped = format!(", user: {}, password_file: shipped", AGENT.user);
    let found = async |keys: &str| {
        let mut session = files.session(server, keys).await.unwrap();
        account::read(&mut session, LIMIT).await.unwrap().unwrap()
    };
    let of_shipped = found(&shipped).await;
    assert_eq!(of_shipped.name, "'mha_agent'@'localhost'");
    assert_eq!(of_shipped.missing, Vec::<&str>::new());
    // All that older servers ask for.
    server
        .exec("GRANT CONNECTION_ADMIN ON *.* TO plain@'%'")
        .await?;
    let lacking = found(keys).await;
    assert_eq!(lacking.name, "'plain'@'%'");
    assert_eq!(lacking.missing, ["SYSTEM_USER"]);

    // The applier's threads are such sessions, as are those of root.
    let mut admin = server.admin().await?;
    let id = admin.value("SELECT CONNECTION_ID()").await?;
    let kill = async || {
        let mut session = files.session(server, keys).await.unwrap();
        session.exec(&format!("KILL {id}"), LIMIT).await
    };
    assert_eq!(kill().await.unwrap_err().errno(), Some(1095));
    server
        .exec_all(&[
            "CREATE ROLE may_end",
            "GRANT SYSTEM_USER ON *.* TO may_end",
            "GRANT may_end TO plain@'%'",
        ])
        .await?;
    assert_eq!(found(keys).await.missing, ["SYSTEM_USER"], "not active");
    server.exec("SET DEFAULT ROLE may_end TO plain@'%'").await?;
    assert_eq!(found(keys).await.missing, Vec::<&str>::new());
    server.exec("DROP ROLE may_end").await?;
    let grant = format!(
        "GRANT {} ON *.* TO {}",
        lacking.missing.join(", "),
        lacking.name
    );
    server.exec(&grant).await?;
    assert_eq!(found(keys).await.missing, Vec::<&str>::new());
    kill().await.unwrap();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_10_11_without_tls_and_by_socket() -> Outcome {
    let cluster = single(ServerKind::MariaDb1011).await?;
    let files = Files::new();
    let server = cluster.primary();
    files.write("password", "secret");
    server
        .exec("CREATE USER plain@'%' IDENTIFIED BY 'secret'")
        .await?;
    let ping = |keys| files.ping(server, "plain", keys);
    answered("disabled", &ping("").await);
    answered("preferred", &ping("ssl_mode: PREFERRED").await);
    refused(
        "required",
        &ping("ssl_mode: REQUIRED").await,
        0,
        "offers no TLS",
    );
    by_socket(&files, server, "VIA unix_socket").await
}

/// An agent without `user` logs in as its OS user; nobody logs in as somebody else.
async fn by_socket(files: &Files, server: &Server, plugin: &str) -> Outcome {
    let own = os_user();
    let documented = format!("CREATE USER 'mysql'@'localhost' IDENTIFIED {plugin}`");
    assert!(OPERATIONS.contains(&documented), "{documented}");
    for user in [own.as_str(), "somebody_else"] {
        let account = format!("'{user}'@'localhost'");
        server
            .exec_all(&[
                &format!("CREATE USER IF NOT EXISTS {account}"),
                &format!("ALTER USER {account} IDENTIFIED {plugin}"),
            ])
            .await?;
    }
    let found = files.agent(server, "").await.unwrap();
    assert_eq!(found, format!("{own}@localhost"));
    let error = files
        .agent(server, ", user: somebody_else")
        .await
        .unwrap_err();
    assert!(matches!(error.errno(), Some(1045 | 1698)), "{error}");
    let told = error.to_string();
    assert!(told.contains("socket authentication"), "{told}");
    assert!(told.contains(&own), "{told}");
    Ok(())
}
