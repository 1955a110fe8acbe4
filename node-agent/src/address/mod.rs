//! The address that moves with the primary, on this host: brought up and announced, taken down, brought up again after a boot.
//!
//! Guarantees: what the agent keeps for a server is on disk before the address is added, so that a restart neither forgets an
//! address that is up nor brings one up that was given away; a deposed server's address goes down, whatever else happens, and
//! comes up again by a call only; an address that somebody else answers for is not taken unless the caller knows that he serves
//! nothing; taking what is up and dropping what is down change nothing.
//!
//! Addresses do not outlive a boot. An agent that starts again brings its address up only if the stored epoch is still the one
//! that gave it, or the one in which its server was named the primary anew, and if nobody answers for it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::address::{DropOrder, TakeOrder, VirtualAddress};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use self::link::{Link, shown};
use crate::agent::{Agent, LocalServer};
use crate::error::chain;
use crate::state::durable::{self, DurableError};

mod arp;
mod kernel;
mod link;
mod ndp;

#[cfg(test)]
mod tests;

/// How often it is looked for whether the server was deposed.
const LOOK: Duration = Duration::from_millis(100);
/// Pause before an address that could not be brought up or taken down is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Announcements after the first one, and the pause before each: a neighbour may lose one.
const REPEATS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Why an address could not be brought up or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The agent's process may not do it.
    #[error(
        "this agent lacks {}, which the virtual IP needs (systemd/mha-node-agent.service.d/virtual-ip.conf gives it)",
        .0.join(" and ")
    )]
    Capabilities(Vec<&'static str>),
    /// There is no such interface.
    #[error("this host has no interface {0}")]
    NoInterface(String),
    /// The interface is down.
    #[error("the interface {0} is down")]
    Down(String),
    /// The address is up on another interface of this host.
    #[error("{ip} is up on {found} of this host, expected on {expected}")]
    Elsewhere {
        /// The address.
        ip: IpAddr,
        /// Where it belongs.
        expected: String,
        /// Where it is.
        found: String,
    },
    /// Somebody else has it.
    #[error("somebody else answers for {ip}: {mac}, on {interface}")]
    Answered {
        /// The address.
        ip: IpAddr,
        /// His hardware address.
        mac: String,
        /// Where he was heard.
        interface: String,
    },
    /// The server may not be reached by clients.
    #[error("the server is deposed: its address stays down")]
    Deposed,
    /// The kernel refused.
    #[error("{action} {what}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// On which address or interface.
        what: String,
        /// Why it was refused.
        #[source]
        source: std::io::Error,
    },
    /// What is kept could not be stored.
    #[error("what this agent keeps of the address could not be stored")]
    Store(#[from] DurableError),
    /// The task that does it was abandoned.
    #[error("the work on the address was abandoned")]
    Abandoned,
}

impl AddressError {
    fn kernel(action: &'static str, what: impl ToString) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Kernel {
            action,
            what,
            source,
        }
    }
}

type Result<T> = std::result::Result<T, AddressError>;

/// What the agent keeps for a server, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The address.
    pub ip: IpAddr,
    /// Length of its network prefix.
    pub prefix: u8,
    /// Its interface.
    pub interface: String,
    /// Operation that last changed it.
    pub operation: String,
    /// Its epoch.
    pub epoch: u64,
    /// It belongs here; `false`: it was dropped.
    pub held: bool,
    /// It was dropped because the lease was lost: it comes back when the server is made writable again.
    #[serde(default)]
    pub lost: bool,
}

impl Kept {
    fn new(address: &VirtualAddress, operation: &str, epoch: u64, held: bool) -> Self {
        Self {
            ip: address.ip,
            prefix: address.prefix,
            interface: address.interface.clone(),
            operation: operation.to_owned(),
            epoch,
            held,
            lost: false,
        }
    }

    fn address(&self) -> VirtualAddress {
        VirtualAddress {
            ip: self.ip,
            prefix: self.prefix,
            interface: self.interface.clone(),
        }
    }
}

/// What is seen of an address on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// It is up on its interface; `None` if that cannot be told.
    pub up: Option<bool>,
    /// On which interface, or why it cannot be told.
    pub evidence: String,
    /// Why this agent could not take or drop it.
    pub trouble: Option<String>,
}

/// The address of one server.
#[derive(Debug)]
pub struct ServerAddress {
    server: String,
    path: PathBuf,
    kept: Mutex<Option<Kept>>,
    /// One change at a time, to its end in the kernel; a lost lease does not wait for it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl ServerAddress {
    /// Reads what an earlier run of the agent kept in `folder`, if anything.
    ///
    /// # Errors
    /// What cannot be read is an error: an address could stay up beside another one's.
    pub fn open(server: String, folder: &Path) -> std::result::Result<Self, DurableError> {
        let path = folder.join("address.json");
        let kept = durable::read_json::<Kept>(&path)?;
        Ok(Self {
            server,
            path,
            kept: Mutex::new(kept),
            turn: Arc::default(),
        })
    }

    /// What is kept.
    pub fn kept(&self) -> Option<Kept> {
        self.lock().clone()
    }

    /// The lease is lost: the address goes down at once. Does not wait; [`enforce`] goes on until it is down.
    pub fn lease_lost(self: &Arc<Self>) {
        let Some(kept) = self.given_up(true) else {
            return;
        };
        let address = Arc::clone(self);
        tokio::task::spawn_blocking(move || address.withdraw(&kept));
    }

    /// Marks it as dropped in memory; what is to be taken down, if it was held.
    fn given_up(&self, lost: bool) -> Option<Kept> {
        let mut kept = self.lock();
        let held = kept.as_mut().filter(|kept| kept.held)?;
        (held.held, held.lost) = (false, lost);
        Some(held.clone())
    }

    /// Down first, then the disk, which may be what is broken.
    fn withdraw(&self, kept: &Kept) {
        match down(&kept.address()) {
            Ok(was_there) => tracing::warn!(
                server = self.server,
                address = %kept.address(),
                was_there,
                "the address is down, since the lease is lost"
            ),
            Err(error) => {
                // Held again, so that it is tried again.
                if let Some(kept) = self.lock().as_mut() {
                    kept.held = true;
                }
                tracing::error!(
                    server = self.server,
                    address = %kept.address(),
                    error = chain(&error),
                    "the lease is lost, and the address is not down yet"
                );
                return;
            }
        }
        if let Err(error) = durable::write_json(&self.path, kept) {
            tracing::error!(server = self.server, error = chain(&error), "not stored");
        }
    }

    fn store(&self, kept: Kept) -> Result<()> {
        durable::write_json(&self.path, &kept)?;
        *self.lock() = Some(kept);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        // Every change is complete within the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the address up; returns whether it was up already.
///
/// # Errors
/// See [`AddressError`]; the address is not up here then, or was before the call.
pub async fn take(server: &Arc<LocalServer>, order: &TakeOrder) -> Result<bool> {
    let kept = Kept::new(
        &order.address,
        order.context.operation.as_str(),
        order.context.epoch.get(),
        true,
    );
    bring_up(server, kept, order.holder_fenced).await
}

/// Takes the address down; returns whether it was up.
///
/// # Errors
/// See [`AddressError`].
pub async fn drop_it(server: &Arc<LocalServer>, order: &DropOrder) -> Result<bool> {
    let kept = Kept::new(
        &order.address,
        order.context.operation.as_str(),
        order.context.epoch.get(),
        false,
    );
    let address = Arc::clone(&server.address);
    let turn = Arc::clone(&address.turn).lock_owned().await;
    blocking(move || {
        let _turn = turn;
        let other = address
            .kept()
            .filter(|known| known.address() != kept.address());
        address.store(kept.clone())?;
        // One of another configuration goes as well.
        let mut was_there = false;
        for one in other.iter().chain([&kept]) {
            was_there |= down(&one.address())?;
        }
        Ok(was_there)
    })
    .await
}

/// The server was made writable by the present epoch: an address that went with its lease comes back, beside everything else.
pub fn regain(server: &Arc<LocalServer>, operation: &str, epoch: u64) {
    let Some(lost) = server.address.kept().filter(|kept| kept.lost) else {
        return;
    };
    let kept = Kept::new(&lost.address(), operation, epoch, true);
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let address = kept.address();
        if let Err(error) = bring_up(&server, kept, false).await {
            tracing::error!(
                server = server.config.name,
                %address,
                error = chain(&error),
                "the server takes writes again, and its address is not up"
            );
        }
    });
}

/// What is seen of an address here.
pub async fn look(address: VirtualAddress) -> Seen {
    let seen = tokio::task::spawn_blocking(move || see(&address)).await;
    seen.unwrap_or_else(|_| Seen {
        up: None,
        evidence: "the look was abandoned".to_owned(),
        trouble: None,
    })
}

fn see(address: &VirtualAddress) -> Seen {
    let trouble = able(address).err().map(|error| chain(&error));
    match kernel::holders(address.ip) {
        Ok(holders) => {
            let up = holders.iter().any(|(name, _)| *name == address.interface);
            let evidence = match holders.first() {
                None => format!("{} is on no interface of this host", address.ip),
                Some((name, prefix)) => format!("{}/{prefix} is on {name}", address.ip),
            };
            Seen {
                up: Some(up),
                evidence,
                trouble,
            }
        }
        Err(error) => Seen {
            up: None,
            evidence: format!("the interfaces cannot be read: {error}"),
            trouble,
        },
    }
}

/// Whether this process could bring the address up: the interface, which is up.
fn able(address: &VirtualAddress) -> Result<kernel::Interface> {
    let missing = kernel::missing_capabilities();
    if !missing.is_empty() {
        return Err(AddressError::Capabilities(missing));
    }
    let name = &address.interface;
    let interface = kernel::interface(name)
        .map_err(AddressError::kernel("look at", name))?
        .ok_or_else(|| AddressError::NoInterface(name.clone()))?;
    if interface.up {
        Ok(interface)
    } else {
        Err(AddressError::Down(name.clone()))
    }
}

async fn bring_up(server: &Arc<LocalServer>, kept: Kept, holder_fenced: bool) -> Result<bool> {
    let turn = Arc::clone(&server.address.turn).lock_owned().await;
    let server = Arc::clone(server);
    blocking(move || {
        let _turn = turn;
        up(&server, &kept, holder_fenced)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| AddressError::Abandoned)?
}

fn up(server: &Arc<LocalServer>, kept: &Kept, holder_fenced: bool) -> Result<bool> {
    let address = kept.address();
    let interface = able(&address)?;
    let holders =
        kernel::holders(address.ip).map_err(AddressError::kernel("look for", &address))?;
    let was_there = holders.iter().any(|(name, _)| *name == address.interface);
    if let Some((found, _)) = holders.first().filter(|_| !was_there) {
        return Err(AddressError::Elsewhere {
            ip: address.ip,
            expected: address.interface,
            found: found.clone(),
        });
    }
    let link = Link::open(&interface, address.ip).map_err(AddressError::kernel(
        "open a packet socket on",
        &address.interface,
    ))?;
    if let Some(link) = link.as_ref().filter(|_| !was_there && !holder_fenced) {
        let probed = link
            .probe()
            .map_err(AddressError::kernel("look for a duplicate of", &address))?;
        if let Some(mac) = probed {
            return Err(AddressError::Answered {
                ip: address.ip,
                mac: shown(mac),
                interface: address.interface,
            });
        }
    }
    if server.guard.order().is_some() {
        return Err(AddressError::Deposed);
    }
    server.address.store(kept.clone())?;
    if !was_there && let Err(error) = kernel::add(&interface, &address) {
        let mut not_held = kept.clone();
        not_held.held = false;
        server.address.store(not_held)?;
        return Err(AddressError::kernel("add", &address)(error));
    }
    // Deposed while it was added: whoever deposed it may have looked too early.
    if server.guard.order().is_some() {
        server.address.given_up(false);
        down(&address)?;
        return Err(AddressError::Deposed);
    }
    if let Some(link) = link {
        // It is up: neighbours that do not hear of it find out when their entries expire.
        announce(server, &link, &address);
        let server = Arc::clone(server);
        tokio::runtime::Handle::current().spawn(repeat(server, link, kept.clone()));
    }
    tracing::info!(server = server.config.name, %address, was_there, "address up");
    Ok(was_there)
}

fn announce(server: &LocalServer, link: &Link, address: &VirtualAddress) {
    if let Err(error) = link.announce() {
        tracing::warn!(server = server.config.name, %address, %error, "not announced");
    }
}

/// Announces again and again, as long as the address belongs here by the same operation.
async fn repeat(server: Arc<LocalServer>, link: Link, kept: Kept) {
    for pause in REPEATS {
        sleep(pause).await;
        if server.address.kept().as_ref() != Some(&kept) {
            return;
        }
        // A send to an interface takes microseconds.
        announce(&server, &link, &kept.address());
    }
}

/// Takes an address off its interface, as it is there; whether it was.
fn down(address: &VirtualAddress) -> Result<bool> {
    let holders = kernel::holders(address.ip).map_err(AddressError::kernel("look for", address))?;
    let Some((name, prefix)) = holders.iter().find(|(name, _)| *name == address.interface) else {
        return Ok(false);
    };
    let missing = kernel::missing_capabilities();
    if !missing.is_empty() {
        return Err(AddressError::Capabilities(missing));
    }
    let interface = kernel::interface(name)
        .map_err(AddressError::kernel("look at", name))?
        .ok_or_else(|| AddressError::NoInterface(name.clone()))?;
    kernel::remove(&interface, address.ip, *prefix)
        .map_err(AddressError::kernel("remove", address))?;
    Ok(true)
}

/// What an agent that has just started does with an address that it kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restore {
    /// It belongs here.
    BringUp,
    /// It was given away, or the server is deposed.
    TakeDown,
    /// A newer epoch was granted meanwhile, and nobody said what became of the server: left as it is.
    Leave,
}

/// Pure: by what is on disk.
fn restore(kept: &Kept, deposed: bool, stored: u64, named_in: Option<u64>) -> Restore {
    if deposed || !kept.held {
        Restore::TakeDown
    } else if stored == kept.epoch || named_in == Some(stored) {
        Restore::BringUp
    } else {
        Restore::Leave
    }
}

/// Brings the address up again after a start, and takes that of a deposed server down, until `stop`.
pub async fn enforce(agent: Arc<Agent>, server: Arc<LocalServer>, stop: CancellationToken) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut starting = true;
    let mut next = Instant::now();
    // One line per kind of trouble, not one per try.
    let mut last_trouble = String::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Some(kept) = server.address.kept() else {
            starting = false;
            continue;
        };
        let deposed = server.guard.order().is_some();
        let due = starting || deposed && kept.held;
        if !due || Instant::now() < next {
            continue;
        }
        let cluster = &server.config.cluster;
        // One that cannot be read is no reason to bring an address up.
        let stored = agent.epochs.stored(cluster).map_or(u64::MAX, |s| s.epoch);
        let own = server.lease.assignment();
        let named_in = own
            .filter(|made| made.primary == server.config.name)
            .map(|made| made.epoch);
        let done = match restore(&kept, deposed, stored, named_in) {
            Restore::TakeDown => {
                let address = Arc::clone(&server.address);
                blocking(move || {
                    address.given_up(kept.lost);
                    down(&kept.address())?;
                    let mut kept = kept;
                    kept.held = false;
                    address.store(kept)
                })
                .await
            }
            Restore::BringUp => bring_up(&server, kept, false).await.map(drop),
            Restore::Leave => {
                tracing::warn!(
                    server = server.config.name,
                    address = %kept.address(),
                    kept_epoch = kept.epoch,
                    stored_epoch = stored,
                    "the address is not brought up: a newer operation claimed the cluster here"
                );
                Ok(())
            }
        };
        match done {
            Ok(()) => {
                starting = false;
                last_trouble.clear();
            }
            Err(error) => {
                next = Instant::now() + AGAIN;
                let trouble = chain(&error);
                if trouble != last_trouble {
                    tracing::error!(
                        server = server.config.name,
                        error = trouble,
                        "the address is not as it should be; tried again"
                    );
                    last_trouble = trouble;
                }
            }
        }
    }
}
