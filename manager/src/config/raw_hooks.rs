//! What may stand under `hooks:`; nothing is checked here but names and shapes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// `hooks`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hooks {
    pub(super) timeout: Option<String>,
    pub(super) master_ip_failover_script: Option<Script>,
    pub(super) shutdown_script: Option<Script>,
    pub(super) report_script: Option<Script>,
    pub(super) secondary_check_script: Option<Script>,
    pub(super) init_conf_load_script: Option<Script>,
    #[serde(default)]
    pub(super) ssh: Ssh,
    #[serde(default)]
    pub(super) servers: BTreeMap<String, Server>,
    pub(super) mha_compat: Option<MhaCompat>,
}

/// `hooks.ssh`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ssh {
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) options: Option<String>,
}

/// One of `hooks.servers`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) ip: Option<String>,
    pub(super) ssh_user: Option<String>,
    pub(super) ssh_host: Option<String>,
    pub(super) ssh_ip: Option<String>,
    pub(super) ssh_port: Option<u16>,
    pub(super) master_pid_file: Option<String>,
}

/// `hooks.mha_compat`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MhaCompat {
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) hooks: Vec<String>,
}

/// A command: a line, a list of words, or either with a limit of its own.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) command: CommandText,
    pub(super) timeout: Option<String>,
}

/// A command as written.
#[derive(Debug, Clone)]
pub(super) enum CommandText {
    /// Words as a shell would see them.
    Line(String),
    /// Words as they are.
    Words(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    command: CommandText,
    timeout: Option<String>,
}

// By hand: an untagged enum would forget which key was unknown, and where.

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = CommandText;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a command line or a list of words")
    }

    fn visit_str<E: Error>(self, line: &str) -> Result<CommandText, E> {
        Ok(CommandText::Line(line.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<CommandText, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(words)).map(CommandText::Words)
    }
}

impl<'de> Deserialize<'de> for CommandText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisitor)
    }
}

struct ScriptVisitor;

impl<'de> Visitor<'de> for ScriptVisitor {
    type Value = Script;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a command line, a list of words, or `command` and `timeout`")
    }

    fn visit_str<E: Error>(self, line: &str) -> Result<Script, E> {
        CommandVisitor.visit_str(line).map(Script::plain)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Script, A::Error> {
        CommandVisitor.visit_seq(words).map(Script::plain)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Script, A::Error> {
        let Detailed { command, timeout } = Detailed::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Script { command, timeout })
    }
}

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScriptVisitor)
    }
}

impl Script {
    fn plain(command: CommandText) -> Self {
        Self {
            command,
            timeout: None,
        }
    }

    /// A command line that came from elsewhere than the file.
    pub(super) fn line(line: &str) -> Self {
        Self::plain(CommandText::Line(line.to_owned()))
    }
}
