//! The address that moves with the primary, as steps: down at the old one, up at the new one.

use super::perform::RETRY_PAUSE;
use super::{Run, StepError};
use crate::journal::StepOutcome;
use proto::address::VirtualAddress;

type Result<T> = std::result::Result<T, StepError>;

fn address<'r>(run: &'r Run, server: &str) -> Result<&'r VirtualAddress> {
    run.config
        .virtual_ip
        .as_ref()
        .and_then(|virtual_ip| virtual_ip.at(server))
        .ok_or(StepError::Incomplete {
            what: "virtual_ip of the configuration",
        })
}

/// Taking an address that is up already changes nothing: a lost answer is asked for again.
pub(super) async fn take(run: &Run, server: &str, holder_fenced: bool) -> Result<StepOutcome> {
    let address = address(run, server)?;
    let limit = run.config.failover.call_timeout;
    let client = run.client(server)?;
    let mut tries_left = 2;
    loop {
        let taken = client.take_address(&run.context, server, address, holder_fenced, limit);
        match taken.await {
            Err(error) if error.is_lost() && tries_left > 0 => {
                tries_left -= 1;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            taken => {
                return Ok(StepOutcome::AddressTaken { was_there: taken? });
            }
        }
    }
}

pub(super) async fn drop_it(run: &Run, server: &str) -> Result<StepOutcome> {
    let address = address(run, server)?;
    let limit = run.config.failover.call_timeout;
    let was_there = run
        .client(server)?
        .drop_address(&run.context, server, address, limit)
        .await?;
    if was_there {
        run.address_dropped();
    }
    Ok(StepOutcome::AddressDropped { was_there })
}
