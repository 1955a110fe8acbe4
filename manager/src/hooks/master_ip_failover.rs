//! `master_ip_failover_script`: arguments and exit codes. Pure.
//!
//! | when | arguments |
//! |---|---|
//! | check | `--command=status --ssh_user --orig_master_host --orig_master_ip --orig_master_port` |
//! | phase 2 | `--orig_master_host --orig_master_ip --orig_master_port`, then `--command=stopssh --ssh_user` if the host answers, else `--command=stop` |
//! | after the winner has everything | `--command=start --ssh_user --orig_master_host --orig_master_ip --orig_master_port --new_master_host --new_master_ip --new_master_port --new_master_user --new_master_password` |
//!
//! User and password are there only if `hooks.mha_compat` gives them to this hook. The optional ssh arguments follow.

use super::{Call, CompatCredentials, Hook, Party};

const HOOK: Hook = Hook::MasterIpFailoverScript;

/// What an exit code of `stop`, `stopssh` or `start` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// 0: done.
    Done,
    /// 10: not done, go on all the same.
    GoOn,
    /// Anything else: stop the failover.
    Stop,
}

/// Reads an exit code.
#[must_use]
pub fn meaning(code: i32) -> Meaning {
    match code {
        0 => Meaning::Done,
        10 => Meaning::GoOn,
        _ => Meaning::Stop,
    }
}

/// `--command=status`: may the script be used? Asked while the primary lives.
#[must_use]
pub fn status(primary: &Party, ssh_options: Option<&str>) -> Call {
    let call = Call::new(HOOK)
        .argument("command", "status")
        .argument("ssh_user", primary.ssh_user.as_str());
    let call = primary.address(call, "orig_master_");
    primary
        .ssh(call, "orig_master_")
        .maybe("ssh_options", ssh_options)
}

/// `--command=stopssh` or `stop`: take the address away from the dead primary.
#[must_use]
pub fn stop(dead: &Party, host_answers: bool, ssh_options: Option<&str>) -> Call {
    let call = dead.address(Call::new(HOOK), "orig_master_");
    let call = if host_answers {
        call.argument("command", "stopssh")
            .argument("ssh_user", dead.ssh_user.as_str())
    } else {
        call.argument("command", "stop")
    };
    dead.ssh(call, "orig_master_")
        .maybe("ssh_options", ssh_options)
}

/// `--command=start`: give the address to the new primary.
#[must_use]
pub fn start(
    dead: &Party,
    new: &Party,
    credentials: Option<&CompatCredentials>,
    ssh_options: Option<&str>,
) -> Call {
    let call = Call::new(HOOK)
        .argument("command", "start")
        .argument("ssh_user", new.ssh_user.as_str());
    let call = new.address(dead.address(call, "orig_master_"), "new_master_");
    let call = match credentials {
        Some(c) => call
            .argument("new_master_user", c.user.as_str())
            .secret("new_master_password", &c.password),
        None => call,
    };
    new.ssh(dead.ssh(call, "orig_master_"), "new_master_")
        .maybe("ssh_options", ssh_options)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::address::tests::simple;
    use super::*;
    use crate::config::Secret;

    #[test]
    fn exit_codes_mean_what_mha_says() {
        for (code, expected) in [
            (0, Meaning::Done),
            (10, Meaning::GoOn),
            (1, Meaning::Stop),
            (2, Meaning::Stop),
            (20, Meaning::Stop),
            (127, Meaning::Stop),
            (255, Meaning::Stop),
        ] {
            assert_eq!(meaning(code), expected, "{code}");
        }
    }

    #[test]
    fn arguments_are_mhas_in_mhas_order() {
        let (dead, new) = (simple("db1", "10.0.0.1"), simple("db2", "10.0.0.2"));
        let credentials = CompatCredentials {
            user: "root".into(),
            password: Secret::new("a b'c"),
            hooks: BTreeSet::from([HOOK]),
        };
        let table: [(Call, &[&str]); 5] = [
            (
                status(&dead, None),
                &[
                    "--command=status",
                    "--ssh_user=mysql",
                    "--orig_master_host=db1",
                    "--orig_master_ip=10.0.0.1",
                    "--orig_master_port=3306",
                ],
            ),
            (
                stop(&dead, true, None),
                &[
                    "--orig_master_host=db1",
                    "--orig_master_ip=10.0.0.1",
                    "--orig_master_port=3306",
                    "--command=stopssh",
                    "--ssh_user=mysql",
                ],
            ),
            (
                stop(&dead, false, None),
                &[
                    "--orig_master_host=db1",
                    "--orig_master_ip=10.0.0.1",
                    "--orig_master_port=3306",
                    "--command=stop",
                ],
            ),
            (
                start(&dead, &new, None, None),
                &[
                    "--command=start",
                    "--ssh_user=mysql",
                    "--orig_master_host=db1",
                    "--orig_master_ip=10.0.0.1",
                    "--orig_master_port=3306",
                    "--new_master_host=db2",
                    "--new_master_ip=10.0.0.2",
                    "--new_master_port=3306",
                ],
            ),
            (
                start(&dead, &new, Some(&credentials), None),
                &[
                    "--command=start",
                    "--ssh_user=mysql",
                    "--orig_master_host=db1",
                    "--orig_master_ip=10.0.0.1",
                    "--orig_master_port=3306",
                    "--new_master_host=db2",
                    "--new_master_ip=10.0.0.2",
                    "--new_master_port=3306",
                    "--new_master_user=root",
                    "--new_master_password=a b'c",
                ],
            ),
        ];
        for (call, expected) in table {
            assert_eq!(call.arguments(), expected);
        }
    }

    #[test]
    fn ssh_arguments_follow_with_the_prefix_of_their_server() {
        let mut dead = simple("db1", "10.0.0.1");
        let mut new = simple("db2", "10.0.0.2");
        dead.ssh_port = 2222;
        new.ssh_host = "adm2".into();
        new.ssh_ip = "10.9.0.2".into();
        new.ssh_user = "other".into();
        let options = Some("-o ProxyJump=jump");
        let arguments = start(&dead, &new, None, options).arguments();
        assert_eq!(arguments[1], "--ssh_user=other", "the new primary's user");
        assert_eq!(
            arguments[8..],
            [
                "--orig_master_ssh_port=2222",
                "--new_master_ssh_host=adm2",
                "--new_master_ssh_ip=10.9.0.2",
                "--ssh_options=-o ProxyJump=jump",
            ]
        );
        assert_eq!(
            stop(&dead, false, options).arguments()[3..],
            [
                "--command=stop",
                "--orig_master_ssh_port=2222",
                "--ssh_options=-o ProxyJump=jump",
            ]
        );
        assert_eq!(
            status(&dead, options).arguments()[5..],
            [
                "--orig_master_ssh_port=2222",
                "--ssh_options=-o ProxyJump=jump",
            ]
        );
    }
}
