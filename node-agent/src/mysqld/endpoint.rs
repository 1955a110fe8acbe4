//! Where the local mysqld answers, and as whom the agent speaks to it.

use std::fmt;
use std::path::PathBuf;

use crate::config::{ConfigError, Secret, ServerConfig};

/// Socket and account of one local server. `Debug` and `Display` show no password.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Server name of the agent's configuration, for errors and logs.
    pub server: String,
    /// Unix socket.
    pub socket: PathBuf,
    /// Account name.
    pub user: String,
    /// Password; `None` for socket authentication.
    pub password: Option<Secret>,
}

impl Endpoint {
    /// Endpoint of a configured server; reads the password file. Without a configured account it is the OS user's
    /// name, as socket authentication wants it.
    pub fn from_config(config: &ServerConfig) -> Result<Self, ConfigError> {
        let password = config
            .password_file
            .as_ref()
            .map(|file| file.read())
            .transpose()?;
        Ok(Self {
            server: config.name.clone(),
            socket: config.socket.clone(),
            user: config.user.clone().unwrap_or_else(os_user),
            password,
        })
    }
}

/// Name of the user this process runs as; its number if the user has no name.
pub(super) fn os_user() -> String {
    let uid = nix::unistd::Uid::effective();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.server, self.socket.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_in_no_printed_form() {
        let endpoint = Endpoint {
            server: "db1:3306".to_owned(),
            socket: PathBuf::from("/run/mysqld.sock"),
            user: "mha".to_owned(),
            password: Some(Secret::new("hush".to_owned())),
        };
        let printed = format!("{endpoint} {endpoint:?}");
        assert!(printed.contains("db1:3306"), "{printed}");
        assert!(!printed.contains("hush"), "{printed}");
    }
}
