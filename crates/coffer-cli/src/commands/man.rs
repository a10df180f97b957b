//! `coffer man`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::exit_code::Exit;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write the pages of all commands into this directory, which is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> Result<Exit> {
    let mut command = Cli::command();
    command.build();
    match &args.dir {
        None => output::raw(&page(&command, "coffer")?)?,
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
            write_all(&command, "coffer", dir)?;
        }
    }
    Ok(Exit::Done)
}

/// Writes the page of a command, and those of the commands below it.
fn write_all(command: &Command, name: &str, dir: &Path) -> Result<()> {
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, page(command, name)?).with_context(|| format!("write {}", path.display()))?;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        write_all(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).title(name.to_uppercase()).manual("Coffer manual");
    man.render(&mut page).context("write the manual page")?;
    Ok(page)
}
