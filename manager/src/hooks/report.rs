//! `report_script`: arguments, subject and body. Pure.
//!
//! Called whenever phase 2 was reached, also when the failover was stopped:
//! `--orig_master_host`; if the winner was opened `--new_master_host --new_slave_hosts=h1,h2` (those that follow it);
//! `--conf --subject --body`. Its exit code is recorded and changes nothing.

use std::path::Path;

use super::{Call, Hook, Party};

/// Longest body: one argument may have 128 KiB on Linux, its name and a last line included.
const LONGEST_BODY: usize = 120_000;

/// What the script is told.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Host of the dead primary.
    pub orig_master_host: &'a str,
    /// Host of the new primary, once it was opened for writes.
    pub new_master_host: Option<&'a str>,
    /// Hosts that follow it.
    pub new_slave_hosts: &'a [String],
    /// Configuration file.
    pub conf: &'a Path,
    /// One line.
    pub subject: &'a str,
    /// The report.
    pub body: &'a str,
}

/// MHA's subject, in MHA's words: scripts and mail filters know it.
#[must_use]
pub fn subject(cluster: &str, dead: &Party, new: Option<&Party>, succeeded: bool) -> String {
    let mut subject = format!("{cluster}: MySQL Master failover {}", dead.shown());
    if let Some(new) = new {
        subject.push_str(&format!(" to {}", new.shown()));
    }
    if succeeded {
        subject.push_str(" succeeded");
    }
    subject
}

/// The call.
#[must_use]
pub fn call(told: &Told<'_>) -> Call {
    let call = Call::new(Hook::ReportScript).argument("orig_master_host", told.orig_master_host);
    let call = match told.new_master_host {
        Some(host) => call
            .argument("new_master_host", host)
            .argument("new_slave_hosts", told.new_slave_hosts),
        None => call,
    };
    call.argument("conf", told.conf)
        .argument("subject", told.subject)
        .argument("body", shortened(told.body).as_str())
}

fn shortened(body: &str) -> String {
    if body.len() <= LONGEST_BODY {
        return body.to_owned();
    }
    let mut end = LONGEST_BODY;
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    let kept = body.get(..end).unwrap_or_default();
    format!("{kept}\n(cut here: {} bytes in all)\n", body.len())
}

#[cfg(test)]
mod tests {
    use super::super::address::tests::simple;
    use super::*;

    #[test]
    fn subjects_are_mhas() {
        let (dead, new) = (simple("db1", "10.0.0.1"), simple("db2", "10.0.0.2"));
        for (new, succeeded, expected) in [
            (
                Some(&new),
                true,
                "app1: MySQL Master failover db1(10.0.0.1:3306) to db2(10.0.0.2:3306) succeeded",
            ),
            (
                Some(&new),
                false,
                "app1: MySQL Master failover db1(10.0.0.1:3306) to db2(10.0.0.2:3306)",
            ),
            (
                None,
                false,
                "app1: MySQL Master failover db1(10.0.0.1:3306)",
            ),
        ] {
            assert_eq!(subject("app1", &dead, new, succeeded), expected);
        }
    }

    #[test]
    fn arguments_are_mhas_in_mhas_order() {
        let replicas = ["db3".to_owned(), "db4".to_owned()];
        let mut told = Told {
            orig_master_host: "db1",
            new_master_host: Some("db2"),
            new_slave_hosts: &replicas,
            conf: Path::new("/etc/mha/app1.yaml"),
            subject: "it's `$(done)`",
            body: "line 1\nline \"2\"\n",
        };
        assert_eq!(
            call(&told).arguments(),
            [
                "--orig_master_host=db1",
                "--new_master_host=db2",
                "--new_slave_hosts=db3,db4",
                "--conf=/etc/mha/app1.yaml",
                "--subject=it's `$(done)`",
                "--body=line 1\nline \"2\"\n",
            ]
        );
        told.new_master_host = None;
        assert_eq!(
            call(&told).arguments()[..2],
            ["--orig_master_host=db1", "--conf=/etc/mha/app1.yaml"]
        );
    }

    #[test]
    fn a_long_body_fits_one_argument_and_says_that_it_was_cut() {
        let body = "\u{e9}".repeat(100_000);
        let argument = shortened(&body);
        assert!(argument.len() < 128 * 1024 - 16, "{}", argument.len());
        assert!(argument.ends_with("(cut here: 200000 bytes in all)\n"));
        assert_eq!(shortened("short"), "short");
    }
}
