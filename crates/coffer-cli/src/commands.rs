//! One module for each subcommand.

pub(crate) mod backup;
pub(crate) mod cat;
pub(crate) mod completions;
pub(crate) mod diff;
mod doctor;
pub(crate) mod dump;
mod entries;
pub(crate) mod find;
pub(crate) mod handover;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod kms;
pub(crate) mod locks;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod policy;
pub(crate) mod promote;
pub(crate) mod reconcile;
pub(crate) mod regions;
pub(crate) mod replicate;
pub(crate) mod restore;
pub(crate) mod sandbox;
pub(crate) mod snapshots;
mod stats;
pub(crate) mod verify;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::command_error::{CommandError, Failure};
use crate::config::Config;
use crate::exit_code::Exit;
use crate::output::Output;
use crate::process::catch_interrupts;
use crate::wiring::World;

pub(crate) fn run(cli: Cli, config: &Config) -> Result<Exit> {
    // What works on no vault.
    match &cli.command {
        Command::Completions(args) => return completions::run(args),
        Command::Man(args) => return man::run(args),
        Command::Sandbox(command) => return sandbox::run(command, cli.global.json),
        Command::Regions(args) => return regions::run(Output::of(&cli.global), args),
        Command::Kms(command) => return kms::run(command, Output::of(&cli.global)),
        _ => {}
    }
    let world = World::new(&cli.global, config)?;
    // What reads or writes much ends in order; everything else can be left at any point.
    let orderly = matches!(
        cli.command,
        Command::Backup(_)
            | Command::Restore(_)
            | Command::Ls(_)
            | Command::Find(_)
            | Command::Cat(_)
            | Command::Dump(_)
            | Command::Diff(_)
            | Command::Replicate(_)
            | Command::Reconcile(_)
    );
    if world.is_as_of() && !only_reads(&cli.command) {
        let hint = "with --as-of: snapshots, ls, find, cat, dump, diff, restore, verify, stats";
        return Err(Failure::usage("--as-of shows a vault as it was, for reading only").hint(hint).into());
    }
    world.check_as_of()?;
    catch_interrupts(orderly, cli.global.json)?;
    let goes_on = match &cli.command {
        Command::Backup(args) if !args.dry_run => Some("what was stored is kept"),
        Command::Restore(args) if !args.dry_run => Some("what was restored stays"),
        _ => None,
    };
    let performed = perform(&world, cli.command);
    world.say_what_failed_over();
    world.say_requests(performed.is_ok());
    performed.map_err(|error| match goes_on {
        Some(kept) if CommandError::is_interrupted(&error) => {
            let hint = format!("{kept}; run the command again to continue");
            Failure::new(Exit::Interrupted, format!("{error:#}")).hint(hint).into()
        }
        _ => error,
    })
}

/// Whether a command changes nothing in the vault.
const fn only_reads(command: &Command) -> bool {
    matches!(
        command,
        Command::Snapshots(_)
            | Command::Ls(_)
            | Command::Find(_)
            | Command::Cat(_)
            | Command::Dump(_)
            | Command::Diff(_)
            | Command::Restore(_)
            | Command::Verify(_)
            | Command::Stats
    )
}

fn perform(world: &World, command: Command) -> Result<Exit> {
    match command {
        Command::Init(args) => init::run(world, &args),
        Command::Backup(args) => backup::run(world, &args),
        Command::Snapshots(args) => snapshots::run(world, &args),
        Command::Ls(args) => ls::run(world, &args),
        Command::Find(args) => find::run(world, &args),
        Command::Cat(args) => cat::run(world, &args),
        Command::Dump(args) => dump::run(world, &args),
        Command::Diff(args) => diff::run(world, &args),
        Command::Restore(args) => restore::run(world, &args),
        Command::Verify(args) => verify::run(world, &args),
        Command::Replicate(args) => replicate::run(world, &args),
        Command::Handover(args) => handover::run(world, &args),
        Command::Promote(args) => promote::run(world, &args),
        Command::Reconcile(args) => reconcile::run(world, &args),
        Command::Stats => stats::run(world),
        Command::Keys(command) => keys::run(world, &command),
        Command::Policy(command) => policy::run(world, &command),
        Command::Locks(command) => locks::run(world, &command),
        Command::Doctor => doctor::run(world),
        Command::Regions(args) => regions::run(world.output, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Sandbox(command) => sandbox::run(&command, world.output.json),
        Command::Kms(command) => kms::run(&command, world.output),
    }
}
