//! `shutdown_script`: arguments and exit codes. Pure.
//!
//! | when | arguments |
//! |---|---|
//! | check | `--command=status --ssh_user --host --ip` |
//! | phase 2, after `master_ip_failover_script` | `--command=stopssh --ssh_user` if the host answers, else `--command=stop`; `--host --ip --port`; `--pid_file` if `master_pid_file` is set |

use super::{Call, Hook, Party};

const HOOK: Hook = Hook::ShutdownScript;

/// What an exit code of `stop` or `stopssh` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// 0: the host is off.
    PowerOff,
    /// 10: the host is on, its mysqld was killed.
    MysqldStopped,
    /// Anything else: stop the failover.
    Stop,
}

/// Reads an exit code.
#[must_use]
pub fn meaning(code: i32) -> Meaning {
    match code {
        0 => Meaning::PowerOff,
        10 => Meaning::MysqldStopped,
        _ => Meaning::Stop,
    }
}

/// `--command=status`: may the script be used? Asked while the primary lives.
#[must_use]
pub fn status(primary: &Party, ssh_options: Option<&str>) -> Call {
    let call = Call::new(HOOK)
        .argument("command", "status")
        .argument("ssh_user", primary.ssh_user.as_str())
        .argument("host", primary.host.as_str())
        .argument("ip", primary.ip.as_str());
    primary.ssh(call, "").maybe("ssh_options", ssh_options)
}

/// `--command=stopssh` or `stop`: end the dead primary for good.
#[must_use]
pub fn stop(dead: &Party, host_answers: bool, ssh_options: Option<&str>) -> Call {
    let call = if host_answers {
        Call::new(HOOK)
            .argument("command", "stopssh")
            .argument("ssh_user", dead.ssh_user.as_str())
    } else {
        Call::new(HOOK).argument("command", "stop")
    };
    let call = dead
        .address(call, "")
        .maybe("pid_file", dead.master_pid_file.as_deref());
    dead.ssh(call, "").maybe("ssh_options", ssh_options)
}

#[cfg(test)]
mod tests {
    use super::super::address::tests::simple;
    use super::*;

    #[test]
    fn exit_codes_mean_what_mha_says() {
        for (code, expected) in [
            (0, Meaning::PowerOff),
            (10, Meaning::MysqldStopped),
            (1, Meaning::Stop),
            (126, Meaning::Stop),
            (255, Meaning::Stop),
        ] {
            assert_eq!(meaning(code), expected, "{code}");
        }
    }

    #[test]
    fn arguments_are_mhas_in_mhas_order() {
        let dead = simple("db1", "10.0.0.1");
        let mut with_pid = dead.clone();
        with_pid.master_pid_file = Some("/run/mysqld.pid".into());
        with_pid.ssh_port = 2222;
        let table: [(Call, &[&str]); 4] = [
            (
                status(&dead, None),
                &[
                    "--command=status",
                    "--ssh_user=mysql",
                    "--host=db1",
                    "--ip=10.0.0.1",
                ],
            ),
            (
                stop(&dead, true, None),
                &[
                    "--command=stopssh",
                    "--ssh_user=mysql",
                    "--host=db1",
                    "--ip=10.0.0.1",
                    "--port=3306",
                ],
            ),
            (
                stop(&dead, false, None),
                &[
                    "--command=stop",
                    "--host=db1",
                    "--ip=10.0.0.1",
                    "--port=3306",
                ],
            ),
            (
                stop(&with_pid, true, Some("-4")),
                &[
                    "--command=stopssh",
                    "--ssh_user=mysql",
                    "--host=db1",
                    "--ip=10.0.0.1",
                    "--port=3306",
                    "--pid_file=/run/mysqld.pid",
                    "--ssh_port=2222",
                    "--ssh_options=-4",
                ],
            ),
        ];
        for (call, expected) in table {
            assert_eq!(call.arguments(), expected);
        }
    }
}
