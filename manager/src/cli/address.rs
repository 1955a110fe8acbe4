//! `address`: where the virtual IP is, and bringing it up at a living primary.

use std::path::PathBuf;

use clap::Args;

use super::Streams;
use crate::address::{self, AddressError, SeenAt};
use crate::exit_code::ExitCode;
use crate::facts::Answer;
use crate::observe::Agents;

/// Says at which server the virtual IP is up, and which agents could take it. With `--take` it is brought up at a living primary,
/// unless another host answers for it.
#[derive(Debug, Args)]
pub(super) struct AddressArgs {
    /// Configuration of the cluster.
    #[arg(long)]
    config: PathBuf,
    /// Bring it up at this server: the primary.
    #[arg(long, value_name = "HOST:PORT")]
    take: Option<String>,
}

pub(super) fn run(args: AddressArgs, streams: &mut Streams<'_>) -> Result<ExitCode, ExitCode> {
    let config = super::load(&args.config, streams)?;
    if config.virtual_ip.is_none() {
        streams.error(&AddressError::NotConfigured);
        return Err(ExitCode::Usage);
    }
    let runtime = super::runtime(streams)?;
    let Some(wanted) = args.take else {
        let seen = runtime.block_on(async {
            let agents = Agents::connect(&config).await;
            address::look(&config, &agents).await
        });
        for at in &seen {
            // A closed stdout must not change what the command does.
            let _ = writeln!(streams.out, "{}", line(at));
        }
        return Ok(ExitCode::Done);
    };
    let Some(server) = config.find(&wanted) else {
        let _ = writeln!(
            streams.err,
            "mha-manager: {wanted} is no server of the configuration"
        );
        return Err(ExitCode::Usage);
    };
    match runtime.block_on(address::take(&config, server)) {
        Ok(was_there) => {
            let what = if was_there { "was up already" } else { "is up" };
            let _ = writeln!(streams.out, "the address {what} at {}", server.name);
            Ok(ExitCode::Done)
        }
        Err(error) => {
            streams.error(&error);
            Err(error.exit_code())
        }
    }
}

fn line(at: &SeenAt) -> String {
    let SeenAt {
        server,
        address,
        seen,
    } = at;
    match seen {
        Err(why) => format!("{server}  ?     {address}: {why}"),
        Ok(facts) => {
            let up = match facts.up {
                Answer::Yes => "up  ",
                Answer::No => "down",
                Answer::Unknown => "?   ",
            };
            let mut line = format!("{server}  {up}  {}", facts.evidence);
            if let Some(epoch) = facts.kept_epoch {
                line.push_str(&format!("; kept since epoch {epoch}"));
            }
            if let Some(trouble) = &facts.trouble {
                line.push_str(&format!("; could not be taken here: {trouble}"));
            }
            line
        }
    }
}
