//! One call of a hook as a list of facts, and its three forms: arguments, environment, JSON.
//!
//! All three are made of the same list, so that they cannot disagree. MHA's arguments keep MHA's order.

use std::path::Path;

use serde::Serialize;
use serde_json::Map;

use super::Hook;
use crate::config::Secret;

/// What a fact says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// A list; comma-separated in arguments and environment.
    List(Vec<String>),
}

impl Value {
    fn text(&self) -> String {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::List(list) => list.join(","),
        };
        // No argument and no variable can hold a NUL.
        text.replace('\0', "")
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Number(number) => (*number).into(),
            Self::List(list) => list.clone().into(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&Path> for Value {
    fn from(path: &Path) -> Self {
        Self::Text(path.display().to_string())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&[String]> for Value {
    fn from(list: &[String]) -> Self {
        Self::List(list.to_vec())
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// MHA's name of the argument, or ours where MHA has none.
    pub name: String,
    /// What it says.
    pub value: Value,
    /// It is an argument, too.
    pub argument: bool,
    /// Hidden wherever it is shown.
    pub secret: bool,
}

/// A call of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    hook: Hook,
    facts: Vec<Fact>,
}

#[derive(Serialize)]
struct Json {
    hook: Hook,
    #[serde(flatten)]
    facts: Map<String, serde_json::Value>,
}

impl Call {
    /// A call without facts.
    #[must_use]
    pub fn new(hook: Hook) -> Self {
        Self {
            hook,
            facts: Vec::new(),
        }
    }

    /// The hook.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    fn with(mut self, name: &str, value: Value, argument: bool, secret: bool) -> Self {
        self.facts.push(Fact {
            name: name.to_owned(),
            value,
            argument,
            secret,
        });
        self
    }

    /// With an argument `--NAME=VALUE`.
    #[must_use]
    pub fn argument(self, name: &str, value: impl Into<Value>) -> Self {
        self.with(name, value.into(), true, false)
    }

    /// With an argument, if there is something to say.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.argument(name, value),
            None => self,
        }
    }

    /// With an argument that is hidden wherever it is shown.
    #[must_use]
    pub fn secret(self, name: &str, value: &Secret) -> Self {
        self.with(name, value.reveal().into(), true, true)
    }

    /// With a fact that MHA has no argument for: environment and JSON only.
    #[must_use]
    pub fn fact(self, name: &str, value: impl Into<Value>) -> Self {
        self.with(name, value.into(), false, false)
    }

    /// Arguments, in order.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.facts
            .iter()
            .filter(|f| f.argument)
            .map(|f| format!("--{}={}", f.name, f.value.text()))
            .collect()
    }

    /// Arguments as they are shown: secrets hidden, long texts left out.
    #[must_use]
    pub fn shown(&self) -> String {
        const LONGEST: usize = 200;
        let shown: Vec<String> = self
            .facts
            .iter()
            .filter(|f| f.argument)
            .map(|f| {
                let text = f.value.text();
                if f.secret {
                    format!("--{}=***", f.name)
                } else if text.len() > LONGEST {
                    format!("--{}=<{} bytes>", f.name, text.len())
                } else {
                    format!("--{}={text}", f.name)
                }
            })
            .collect();
        shown.join(" ")
    }

    /// Environment: `MHA_HOOK`, then `MHA_NAME` for every fact.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        std::iter::once(("MHA_HOOK".to_owned(), self.hook.name().to_owned()))
            .chain(self.facts.iter().map(|f| {
                let name = format!("MHA_{}", f.name.to_ascii_uppercase());
                (name, f.value.text())
            }))
            .collect()
    }

    /// One JSON object on one line: `hook`, then every fact under its name.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let json = Json {
            hook: self.hook,
            facts: self
                .facts
                .iter()
                .map(|f| (f.name.clone(), f.value.json()))
                .collect(),
        };
        let mut line = serde_json::to_vec(&json).expect("texts, numbers and lists are JSON");
        line.push(b'\n');
        line
    }

    /// Texts that must not be seen in what the hook prints.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        self.facts
            .iter()
            .filter(|f| f.secret)
            .map(|f| f.value.text())
            .filter(|s| !s.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call::new(Hook::MasterIpFailoverScript)
            .argument("command", "start")
            .argument("orig_master_port", 3306u16)
            .argument(
                "new_slave_hosts",
                ["a".to_owned(), "b".to_owned()].as_slice(),
            )
            .maybe("absent", None::<&str>)
            .fact("epoch", 7u64)
            .secret("new_master_password", &Secret::new("p'; $(x) \\"))
    }

    #[test]
    fn the_three_forms_say_the_same() {
        assert_eq!(
            call().arguments(),
            [
                "--command=start",
                "--orig_master_port=3306",
                "--new_slave_hosts=a,b",
                "--new_master_password=p'; $(x) \\",
            ]
        );
        let environment: Vec<String> = call()
            .environment()
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            environment,
            [
                "MHA_HOOK=master_ip_failover_script",
                "MHA_COMMAND=start",
                "MHA_ORIG_MASTER_PORT=3306",
                "MHA_NEW_SLAVE_HOSTS=a,b",
                "MHA_EPOCH=7",
                "MHA_NEW_MASTER_PASSWORD=p'; $(x) \\",
            ]
        );
        let json: serde_json::Value = serde_json::from_slice(&call().json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "hook": "master_ip_failover_script",
                "command": "start",
                "orig_master_port": 3306,
                "new_slave_hosts": ["a", "b"],
                "epoch": 7,
                "new_master_password": "p'; $(x) \\",
            })
        );
    }

    #[test]
    fn secrets_and_long_texts_are_not_shown() {
        let shown = call().argument("body", "x".repeat(201).as_str()).shown();
        assert_eq!(
            shown,
            "--command=start --orig_master_port=3306 --new_slave_hosts=a,b --new_master_password=*** --body=<201 bytes>"
        );
        assert_eq!(call().secrets(), ["p'; $(x) \\"]);
    }

    #[test]
    fn nul_bytes_cannot_reach_an_argument() {
        let call = Call::new(Hook::ReportScript).argument("body", "a\0b");
        assert_eq!(call.arguments(), ["--body=ab"]);
    }
}
