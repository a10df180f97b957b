//! `coffer regions`

use anyhow::Result;
use clap::Args;
use coffer_store::{CosLocation, LOCATIONS, Network};
use serde_json::json;

use crate::exit_code::Exit;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct RegionsArgs {
    /// Show the hosts that answer there, too.
    #[arg(short, long)]
    pub(crate) long: bool,
}

pub(super) fn run(output: Output, args: &RegionsArgs) -> Result<Exit> {
    let hosts = |location: &CosLocation| Network::ALL.map(|network| (network.name(), location.host(network)));
    let regions: Vec<_> = LOCATIONS
        .iter()
        .map(|location| {
            json!({
                "name": location.name, "resiliency": location.resiliency.name(), "place": location.place,
                "url": format!("cos://{location}/"),
                "hosts": hosts(location).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            })
        })
        .collect();
    let value = json!({ "message_type": "regions", "regions": regions });
    let mut lines = Vec::new();
    for location in LOCATIONS {
        lines.push(format!("{:<9} {:<13} {}", location.name, location.resiliency.name(), location.place));
        if args.long {
            lines.extend(hosts(location).map(|(network, host)| format!("    {network:<8} {host}")));
        }
    }
    output.result(&value, &lines.join("\n"))?;
    Ok(Exit::Done)
}
