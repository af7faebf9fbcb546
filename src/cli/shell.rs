//! `doorbell completions` and `doorbell man`: what packages install beside the binary.

use std::{io, path::PathBuf};

use clap::Args;
use clap_complete::Shell;

use super::{Error, command::commands};

/// For which shell.
#[derive(Args, Clone)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Prints the completions.
pub fn completions(args: &CompletionsArgs) -> Result<(), Error> {
    // It is made whole first: the generator panics where its reader has left.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut commands(), "doorbell", &mut script);
    Ok(io::Write::write_all(&mut io::stdout(), &script)?)
}

/// Where to.
#[derive(Args, Clone)]
pub struct ManArgs {
    /// Write a page for each command here; without it, the first is printed
    #[arg(value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// Writes the man pages.
pub fn man(args: &ManArgs) -> Result<(), Error> {
    match &args.directory {
        Some(directory) => clap_mangen::generate_to(commands(), directory)?,
        None => clap_mangen::Man::new(commands()).render(&mut io::stdout())?,
    }
    Ok(())
}
