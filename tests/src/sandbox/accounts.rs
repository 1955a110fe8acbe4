//! The accounts on every server of the sandbox: those that `deploy/sql` tells operators to make, and one for clients.

use super::client::Client;
use super::error::SandboxError;
use super::fetch::ServerKind;

/// Name and password of an account.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Account name.
    pub user: &'static str,
    /// Password.
    pub password: &'static str,
}

/// The account of the agents, on the unix socket.
pub const AGENT: Account = Account {
    user: "mha_agent",
    password: "agent-secret",
};
/// The account of the replicas.
pub const REPLICATION: Account = Account {
    user: "repl",
    password: "repl-secret",
};
/// The account of the manager's ping.
pub const MONITOR: Account = Account {
    user: "mha_monitor",
    password: "monitor-secret",
};
/// The account of clients: no SUPER, so `read_only` holds for it.
pub const APPLICATION: Account = Account {
    user: "app",
    password: "app-secret",
};

/// What operators run; the sandbox runs the same, so that the privileges it shows are known to be enough.
fn shipped(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::MySql56 | ServerKind::MySql57 => {
            include_str!("../../../deploy/sql/accounts-mysql-5.6.sql")
        }
        ServerKind::MySql80 | ServerKind::MySql97 => {
            include_str!("../../../deploy/sql/accounts-mysql-8.0.sql")
        }
        ServerKind::MariaDb105 | ServerKind::MariaDb1011 | ServerKind::MariaDb118 => {
            include_str!("../../../deploy/sql/accounts-mariadb-10.11.sql")
        }
    }
}

/// Makes all accounts through a session of `root`. Nothing of it goes to the binary log.
pub async fn create(kind: ServerKind, session: &mut Client) -> Result<(), SandboxError> {
    session.exec("SET sql_log_bin=0").await?;
    let script = shipped(kind)
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect::<Vec<_>>()
        .join("\n")
        .replace("CHANGE-ME-1", AGENT.password)
        .replace("CHANGE-ME-2", REPLICATION.password)
        .replace("CHANGE-ME-3", MONITOR.password);
    for statement in script
        .split(';')
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
    {
        session.exec(statement).await?;
    }
    let account = format!("'{}'@'%'", APPLICATION.user);
    session
        .exec(&format!(
            "CREATE USER {account} IDENTIFIED BY '{}'",
            APPLICATION.password
        ))
        .await?;
    session
        .exec(&format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, CREATE TEMPORARY TABLES, LOCK TABLES \
             ON *.* TO {account}",
        ))
        .await
}
