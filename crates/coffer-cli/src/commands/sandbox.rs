//! `coffer sandbox`

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use coffer_sandbox::{KmsKind, Sandbox, SandboxOptions};
use serde_json::json;

use crate::exit_code::Exit;
use crate::{output, process};

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Run the region until it is interrupted or told to terminate. Its state stays in the directory.
    #[command(after_help = "Examples:\n  \
        coffer sandbox serve --dir /tmp/region\n  \
        coffer sandbox serve --dir /tmp/region --region eu-de --location eu --tls --listen 127.0.0.1:9000")]
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the state of the region is kept; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where object storage listens, on loopback. With port 0 each service gets a free port; else IAM has the next port, the admin
    /// endpoint the one after it, then come further locations, and last the public and the private endpoint of the key service.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// The location of object storage.
    #[arg(long, value_name = "LOCATION", default_value = "eu-de")]
    pub(crate) region: String,
    /// A further location, with an endpoint of its own. May be given several times.
    #[arg(long = "location", value_name = "LOCATION")]
    pub(crate) locations: Vec<String>,
    /// HTTPS, with a certificate made for this start; clients must trust DIR/ca.pem.
    #[arg(long)]
    pub(crate) tls: bool,
}

pub(super) fn run(command: &SandboxCommand, json: bool) -> Result<Exit> {
    match command {
        SandboxCommand::Serve(args) => serve(args, json),
    }
}

fn serve(args: &ServeArgs, json: bool) -> Result<Exit> {
    let mut options = SandboxOptions::default();
    options.directory = Some(args.dir.clone());
    options.listen = args.listen;
    options.region.clone_from(&args.region);
    options.more_locations.clone_from(&args.locations);
    options.tls = args.tls;
    let end = process::catch_end()?;
    let sandbox = Sandbox::start(&options)?;
    let root_key = root_key(&sandbox)?;
    output::line(&if json { machine_text(&sandbox, &root_key) } else { text(&sandbox, &root_key) })?;
    // The services have threads of their own. There is a sender for as long as the process runs.
    let _ = end.recv();
    Ok(Exit::Done)
}

/// The name of the instance of Key Protect, and of its root key, that every region here has from its first start.
const FIRST: &str = "coffer";

/// A root key in an instance of Key Protect.
struct RootKey {
    instance: String,
    crn: String,
}

/// The root key that the region has from its first start.
fn root_key(sandbox: &Sandbox) -> Result<RootKey> {
    let there = sandbox.kms_instances().into_iter().find(|(_, name)| name == FIRST);
    let instance = match there {
        Some((guid, _)) => guid,
        None => sandbox.create_kms_instance(FIRST, KmsKind::KeyProtect)?,
    };
    let id = match sandbox.kms_key_id(&instance, FIRST)? {
        Some(id) => id,
        None => sandbox.create_kms_root_key(&instance, FIRST, None)?,
    };
    Ok(RootKey { crn: sandbox.kms_crn(&instance, Some(&id))?, instance })
}

fn machine_text(sandbox: &Sandbox, root_key: &RootKey) -> String {
    let endpoints: serde_json::Map<_, _> =
        sandbox.endpoints().map(|(location, url)| (location.to_owned(), url.into())).collect();
    json!({
        "message_type": "sandbox", "endpoint": sandbox.endpoint(), "endpoints": endpoints,
        "iam_endpoint": sandbox.iam_endpoint(), "admin_endpoint": sandbox.admin_endpoint(),
        "ca_file": sandbox.ca_file().map(|file| file.display().to_string()),
        "instance_id": sandbox.instance_id(), "api_key": sandbox.api_key(),
        "kms_endpoint": sandbox.kms_endpoint(), "kms_private_endpoint": sandbox.kms_private_endpoint(),
        "kms_instance_id": root_key.instance, "root_key": root_key.crn,
        "access_key_id": sandbox.hmac().access_key_id, "secret_access_key": sandbox.hmac().secret_access_key,
    })
    .to_string()
}

fn text(sandbox: &Sandbox, root_key: &RootKey) -> String {
    let mut lines: Vec<_> =
        sandbox.endpoints().map(|(location, url)| format!("object storage in {location}: {url}")).collect();
    lines.push(format!("token endpoint: {}/identity/token", sandbox.iam_endpoint()));
    lines.push(format!("admin endpoint: {}", sandbox.admin_endpoint()));
    lines.push(format!("key service: {}", sandbox.kms_endpoint()));
    lines.push(format!("private endpoint of the key service: {}", sandbox.kms_private_endpoint()));
    lines.push(format!("instance of the key service: {}", root_key.instance));
    lines.push(format!("root key: {}", root_key.crn));
    if let Some(file) = sandbox.ca_file() {
        lines.push(format!("certificate to trust: {}", file.display()));
    }
    lines.push(format!("service instance: {}", sandbox.instance_id()));
    lines.push(format!("API key: {}", sandbox.api_key()));
    lines.push(format!("access key id: {}", sandbox.hmac().access_key_id));
    lines.push(format!("secret access key: {}", sandbox.hmac().secret_access_key));
    lines.push("ready".to_owned());
    lines.join("\n")
}
