//! What happens to the address, told in the order in which it would happen to an operator.

use std::process::Command;
use std::time::{Duration, Instant};

use proto::channel::{self, Target};
use proto::tls::{TlsMaterial, TlsPaths};
use proto::v1;
use proto::v1::epoch_service_client::EpochServiceClient;
use proto::v1::fence_service_client::FenceServiceClient;
use proto::v1::lease_service_client::LeaseServiceClient;
use serde_json::json;
use tonic::transport::Channel;

use super::failed;
use super::lab::{INTERFACES, NEIGHBOUR, ip};
use crate::sandbox::deployment::{Agent, CLUSTER, Deployment, DeploymentSpec, server_name};
use crate::sandbox::launch::{Launch, Process};
use crate::sandbox::tool::{self, Finished};
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, ServerKind};

/// The address that moves.
const ADDRESS: &str = "198.18.0.100";
const ADDRESS_6: &str = "2001:db8::100";
/// A hardware address that nobody has.
const STRANGER: &str = "02:00:00:00:00:99";
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

type Told = Result<(), SandboxError>;

struct Stage<'a> {
    cluster: Cluster,
    deployment: Deployment,
    neighbour: &'a str,
}

pub(super) async fn tell(neighbour: &str, say: impl Fn(&str) -> Told) -> Told {
    proto::tls::install_crypto_provider();
    let stage = Stage::set(neighbour).await?;
    stage.nobody_has_it_at_first().await?;
    say("ok  the address is nowhere, and every agent could take it")?;
    stage.a_duplicate_is_refused().await?;
    say("ok  a host that answers for the address keeps it, and its hardware address is named")?;
    stage.a_replica_does_not_get_it().await?;
    say("ok  a replica does not get it")?;
    let took = stage.the_primary_gets_it().await?;
    say(&format!(
        "ok  the primary gets it, and the neighbour's stale cache is right {} ms after the command began",
        took.as_millis()
    ))?;
    stage.a_boot_brings_it_back().await?;
    say("ok  an agent that starts after a boot brings it up again")?;
    let took = stage.a_failover_moves_it().await?;
    say(&format!(
        "ok  a failover moves it, and the neighbour's cache {} ms after the command began",
        took.as_millis()
    ))?;
    stage.a_deposed_server_loses_it().await?;
    say("ok  an agent that starts beside a deposed server takes it down")?;
    stage.a_newer_claim_leaves_it_down().await?;
    say("ok  an agent that granted a newer claim does not bring it up after a boot")?;
    let took = stage.a_lost_lease_takes_it_down().await?;
    say(&format!(
        "ok  a lost lease takes it down, {} ms after the other agents fell silent",
        took.as_millis()
    ))?;
    stage.a_lease_held_again_brings_it_back().await?;
    say("ok  it comes back when the lease is held again and the server open")?;
    stage.the_same_with_ipv6().await?;
    say("ok  IPv6: refused for a duplicate, taken, announced, dropped")?;
    stage.without_capabilities_it_says_so().await?;
    say("ok  an agent without capabilities says so beforehand, and in the error")
}

fn expect(good: bool, what: &str, found: impl FnOnce() -> String) -> Told {
    if good {
        Ok(())
    } else {
        Err(failed(what, &found()))
    }
}

/// The addresses of one of the hosts' interfaces.
fn addresses(interface: &str) -> Result<String, SandboxError> {
    ip(&["-o", "addr", "show", "dev", interface])
}

fn has(interface: &str, address: &str) -> Result<bool, SandboxError> {
    Ok(addresses(interface)?.contains(&format!(" {address}/")))
}

fn must_have(interface: &str, address: &str, wanted: bool) -> Told {
    expect(
        has(interface, address)? == wanted,
        &format!("{address} on {interface}: expected {wanted}"),
        || addresses(interface).unwrap_or_default(),
    )
}

async fn until_it_has(interface: &str, address: &str, wanted: bool) -> Told {
    let what = format!("{address} on {interface} to be {wanted}");
    wait::until(&what, LIMIT, || async {
        Ok(if has(interface, address)? == wanted {
            Look::Done(())
        } else {
            Look::NotYet(addresses(interface)?)
        })
    })
    .await
}

/// The hardware address in `ip link` or `ip neigh`.
fn after(word: &str, text: &str) -> String {
    let mut words = text.split_whitespace();
    words.find(|found| *found == word);
    words.next().unwrap_or_default().to_owned()
}

fn mac(interface: &str) -> Result<String, SandboxError> {
    Ok(after(
        "link/ether",
        &ip(&["-o", "link", "show", "dev", interface])?,
    ))
}

impl<'a> Stage<'a> {
    async fn set(neighbour: &'a str) -> Result<Self, SandboxError> {
        let cluster = Cluster::start(ClusterSpec::new(ServerKind::MySql56)).await?;
        let mut spec = DeploymentSpec::default().candidate(1, "preferred").more(
            "virtual_ip",
            json!({ "address": format!("{ADDRESS}/24"), "interface": INTERFACES[0] }),
        );
        for number in [1, 2] {
            spec = spec.server(number, "virtual_ip_interface", INTERFACES[number]);
        }
        let deployment = Deployment::start(&cluster, &spec).await?;
        Ok(Self {
            cluster,
            deployment,
            neighbour,
        })
    }

    /// Runs `mha-manager address`.
    async fn address(&self, take: Option<usize>) -> Result<Finished, SandboxError> {
        let mut command = Command::new(&self.deployment.binaries().manager);
        command
            .arg("address")
            .arg("--config")
            .arg(self.deployment.manager_config());
        if let Some(number) = take {
            command
                .arg("--take")
                .arg(self.cluster.server(number).host_port());
        }
        tokio::task::spawn_blocking(move || tool::finish(command, None, LIMIT))
            .await
            .map_err(|error| failed("address", &error.to_string()))?
    }

    async fn must_end(&self, take: Option<usize>, code: i32, words: &[&str]) -> Told {
        let ended = self.address(take).await?;
        let text = format!("{}{}", ended.stdout, ended.stderr);
        let said = words.iter().all(|word| text.contains(word));
        expect(
            ended.code == Some(code) && said,
            &format!("expected exit code {code} and {words:?}"),
            || format!("{:?}: {text}", ended.code),
        )
    }

    fn at_neighbour(&self, arguments: &[&str]) -> Result<String, SandboxError> {
        let mut all = vec!["-n", self.neighbour];
        all.extend(arguments);
        ip(&all)
    }

    /// The neighbour believes that this hardware address has it, as after having talked to it.
    fn neighbour_believes(&self, address: &str, mac: &str) -> Told {
        let entry = [
            "neigh",
            "replace",
            address,
            "lladdr",
            mac,
            "nud",
            "reachable",
        ];
        let mut all = entry.to_vec();
        all.extend(["dev", NEIGHBOUR]);
        self.at_neighbour(&all).map(drop)
    }

    /// Waits until the neighbour, which sends nothing, has heard where the address is.
    async fn neighbour_finds_out(&self, address: &str, mac: &str) -> Told {
        let what = format!("the neighbour to hear that {mac} has {address}");
        wait::until(&what, LIMIT, || async {
            let shown = self.at_neighbour(&["neigh", "show", address])?;
            Ok(if after("lladdr", &shown) == mac {
                Look::Done(())
            } else {
                Look::NotYet(shown)
            })
        })
        .await
    }

    async fn nobody_has_it_at_first(&self) -> Told {
        let ended = self.address(None).await?;
        let free = ended.stdout.matches(" down ").count() == 3;
        expect(
            free && !ended.stdout.contains("could not be taken"),
            "three lines without trouble",
            || format!("{}{}", ended.stdout, ended.stderr),
        )
    }

    async fn a_duplicate_is_refused(&self) -> Told {
        let by_hand = format!("{ADDRESS}/32");
        self.at_neighbour(&["addr", "add", &by_hand, "dev", NEIGHBOUR])?;
        let shown = self.at_neighbour(&["-o", "link", "show", "dev", NEIGHBOUR])?;
        let his = after("link/ether", &shown);
        self.must_end(Some(0), 1, &["somebody else answers", &his])
            .await?;
        must_have(INTERFACES[0], ADDRESS, false)?;
        self.at_neighbour(&["addr", "del", &by_hand, "dev", NEIGHBOUR])
            .map(drop)
    }

    async fn a_replica_does_not_get_it(&self) -> Told {
        self.must_end(Some(1), 12, &["it is a replica of"]).await?;
        must_have(INTERFACES[1], ADDRESS, false)
    }

    async fn the_primary_gets_it(&self) -> Result<Duration, SandboxError> {
        self.neighbour_believes(ADDRESS, STRANGER)?;
        let begun = Instant::now();
        self.must_end(Some(0), 0, &["is up"]).await?;
        self.neighbour_finds_out(ADDRESS, &mac(INTERFACES[0])?)
            .await?;
        let took = begun.elapsed();
        must_have(INTERFACES[0], ADDRESS, true)?;
        // Once more: nothing changes.
        self.must_end(Some(0), 0, &["was up already"]).await?;
        Ok(took)
    }

    /// A boot takes every address with it.
    fn boot(&self, number: usize) -> Told {
        self.deployment.agent(number).kill()?;
        let interface = INTERFACES[number];
        if has(interface, ADDRESS)? {
            ip(&["addr", "del", &format!("{ADDRESS}/24"), "dev", interface])?;
        }
        must_have(interface, ADDRESS, false)
    }

    async fn a_boot_brings_it_back(&self) -> Told {
        self.boot(0)?;
        self.neighbour_believes(ADDRESS, STRANGER)?;
        self.deployment.agent(0).start().await?;
        until_it_has(INTERFACES[0], ADDRESS, true).await?;
        self.neighbour_finds_out(ADDRESS, &mac(INTERFACES[0])?)
            .await
    }

    async fn a_failover_moves_it(&self) -> Result<Duration, SandboxError> {
        self.neighbour_believes(ADDRESS, &mac(INTERFACES[0])?)?;
        self.cluster.crash(0)?;
        let begun = Instant::now();
        let moved = async {
            self.neighbour_finds_out(ADDRESS, &mac(INTERFACES[1])?)
                .await?;
            Ok(begun.elapsed())
        };
        let (ended, moved) =
            futures::join!(self.deployment.failover(self.cluster.primary(), &[]), moved);
        let ended = ended?;
        expect(
            ended.finished.code == Some(0),
            "a failover with exit code 0",
            || ended.text(),
        )?;
        for words in ["take the virtual IP down", "bring the virtual IP up"] {
            expect(ended.mentions(words), words, || ended.text())?;
        }
        must_have(INTERFACES[0], ADDRESS, false)?;
        must_have(INTERFACES[1], ADDRESS, true)?;
        moved
    }

    async fn a_deposed_server_loses_it(&self) -> Told {
        // As if the host had come back with it.
        self.deployment.agent(0).kill()?;
        ip(&[
            "addr",
            "add",
            &format!("{ADDRESS}/24"),
            "dev",
            INTERFACES[0],
        ])?;
        self.deployment.agent(0).start().await?;
        until_it_has(INTERFACES[0], ADDRESS, false).await
    }

    async fn channel(&self, agent: &Agent) -> Result<Channel, SandboxError> {
        let folder = self.deployment.certificates();
        let paths = TlsPaths {
            ca: folder.join("ca.pem"),
            cert: folder.join("m1.pem"),
            key: folder.join("m1.key"),
        };
        let material = TlsMaterial::load(&paths)
            .map_err(|error| failed("certificates", &error.to_string()))?;
        let target = Target {
            address: agent.address().to_string(),
            tls: Some((material, format!("{}.{CLUSTER}.agent.mha", agent.name()))),
        };
        channel::connect(&target, LIMIT)
            .await
            .map_err(|error| failed("connect", &error.to_string()))
    }

    /// As a manager of another name than the one whose commands ran before, which runs no more.
    async fn claim(&self, channel: &Channel, epoch: u64, operation: &str) -> Told {
        EpochServiceClient::new(channel.clone())
            .claim_epoch(v1::ClaimEpochRequest {
                cluster: CLUSTER.to_owned(),
                epoch,
                operation: operation.to_owned(),
                manager: "m1".to_owned(),
                take_over: true,
            })
            .await
            .map(drop)
            .map_err(|status| failed("claim", status.message()))
    }

    fn context(&self, number: usize, epoch: u64, operation: &str) -> Option<v1::CallContext> {
        Some(v1::CallContext {
            cluster: CLUSTER.to_owned(),
            server: server_name(self.cluster.server(number)),
            operation: operation.to_owned(),
            epoch,
            deadline_ms: 10_000,
        })
    }

    async fn a_newer_claim_leaves_it_down(&self) -> Told {
        let agent = self.deployment.agent(1);
        let channel = self.channel(agent).await?;
        self.claim(&channel, 50, "newer").await?;
        self.boot(1)?;
        agent.start().await?;
        let log = || std::fs::read_to_string(agent.log()).unwrap_or_default();
        wait::until("the agent to say why", LIMIT, || async {
            Ok(if log().contains("is not brought up") {
                Look::Done(())
            } else {
                Look::NotYet(log())
            })
        })
        .await?;
        must_have(INTERFACES[1], ADDRESS, false)
    }

    async fn a_lost_lease_takes_it_down(&self) -> Result<Duration, SandboxError> {
        let agent = self.deployment.agent(1);
        let channel = self.channel(agent).await?;
        self.claim(&channel, 60, "lease").await?;
        let agents = self.deployment.agents().iter().map(|agent| v1::LeaseAgent {
            name: agent.name().to_owned(),
            address: agent.address().to_string(),
        });
        let assigned = LeaseServiceClient::new(channel.clone())
            .assign_primary(v1::AssignPrimaryRequest {
                context: self.context(1, 60, "lease"),
                primary: server_name(self.cluster.server(1)),
                agents: agents.collect(),
                manager: "m1".to_owned(),
                without_lease: false,
                replaced: false,
            })
            .await
            .map_err(|status| failed("assign", status.message()))?;
        expect(assigned.get_ref().lease, "a lease", || {
            format!("{assigned:?}")
        })?;
        self.take(&channel, 1, 60, "lease", ADDRESS, 24, INTERFACES[1])
            .await
            .map_err(|status| failed("take", status.message()))?;
        must_have(INTERFACES[1], ADDRESS, true)?;
        for number in [0, 2] {
            self.deployment.agent(number).freeze()?;
        }
        let begun = Instant::now();
        until_it_has(INTERFACES[1], ADDRESS, false).await?;
        let took = begun.elapsed();
        Ok(took)
    }

    async fn a_lease_held_again_brings_it_back(&self) -> Told {
        for number in [0, 2] {
            self.deployment.agent(number).thaw()?;
        }
        until_it_has(INTERFACES[1], ADDRESS, true).await
    }

    #[allow(clippy::too_many_arguments)] // one call, as it goes over the wire
    async fn take(
        &self,
        channel: &Channel,
        number: usize,
        epoch: u64,
        operation: &str,
        address: &str,
        prefix: u32,
        interface: &str,
    ) -> Result<bool, tonic::Status> {
        FenceServiceClient::new(channel.clone())
            .take_address(v1::TakeAddressRequest {
                context: self.context(number, epoch, operation),
                address: Some(v1::VirtualAddress {
                    ip: address.to_owned(),
                    prefix,
                    interface: interface.to_owned(),
                }),
                holder_fenced: false,
            })
            .await
            .map(|response| response.get_ref().was_there)
    }

    async fn the_same_with_ipv6(&self) -> Told {
        let interface = INTERFACES[2];
        let agent = self.deployment.agent(2);
        let channel = self.channel(agent).await?;
        self.claim(&channel, 70, "six").await?;
        let by_hand = format!("{ADDRESS_6}/128");
        self.at_neighbour(&["addr", "add", &by_hand, "dev", NEIGHBOUR, "nodad"])?;
        let shown = self.at_neighbour(&["-o", "link", "show", "dev", NEIGHBOUR])?;
        let his = after("link/ether", &shown);
        let refused = self
            .take(&channel, 2, 70, "six", ADDRESS_6, 64, interface)
            .await;
        match &refused {
            Err(status) if status.message().contains(&his) => {}
            other => return Err(failed("a duplicate of IPv6", &format!("{other:?}"))),
        }
        self.at_neighbour(&["addr", "del", &by_hand, "dev", NEIGHBOUR])?;
        self.neighbour_believes(ADDRESS_6, STRANGER)?;
        self.take(&channel, 2, 70, "six", ADDRESS_6, 64, interface)
            .await
            .map_err(|status| failed("take IPv6", status.message()))?;
        self.neighbour_finds_out(ADDRESS_6, &mac(interface)?)
            .await?;
        must_have(interface, ADDRESS_6, true)?;
        let dropped = FenceServiceClient::new(channel)
            .drop_address(v1::DropAddressRequest {
                context: self.context(2, 70, "six"),
                address: Some(v1::VirtualAddress {
                    ip: ADDRESS_6.to_owned(),
                    prefix: 64,
                    interface: interface.to_owned(),
                }),
            })
            .await
            .map_err(|status| failed("drop IPv6", status.message()))?;
        expect(dropped.get_ref().was_there, "it was there", String::new)?;
        must_have(interface, ADDRESS_6, false)
    }

    async fn without_capabilities_it_says_so(&self) -> Told {
        let agent = self.deployment.agent(2);
        agent.kill()?;
        let lacking = "-net_admin,-net_raw";
        let bare = Process::start(&Launch {
            name: "an agent without capabilities".to_owned(),
            program: "setpriv".into(),
            arguments: vec![
                format!("--inh-caps={lacking}").into(),
                format!("--bounding-set={lacking}").into(),
                self.deployment.binaries().agent.clone().into(),
                "run".into(),
                "--config".into(),
                agent.config().into(),
            ],
            environment: Vec::new(),
            log: agent.log().to_owned(),
        })?;
        wait::until("the agent to say what it lacks", LIMIT, || async {
            if let Some(status) = bare.ended()? {
                return Err(bare.not_ready(Process::describe(status)));
            }
            let seen = self.address(None).await?.stdout;
            Ok(
                if seen.contains("this agent lacks CAP_NET_ADMIN and CAP_NET_RAW") {
                    Look::Done(())
                } else {
                    Look::NotYet(seen)
                },
            )
        })
        .await?;
        let channel = self.channel(agent).await?;
        self.claim(&channel, 80, "bare").await?;
        let refused = self
            .take(&channel, 2, 80, "bare", ADDRESS, 24, INTERFACES[2])
            .await;
        match &refused {
            Err(status) if status.message().contains("CAP_NET_ADMIN") => Ok(()),
            other => Err(failed("a clear refusal", &format!("{other:?}"))),
        }
    }
}
