//! Chores of the workspace: `cargo xtask bench`.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

/// Chores of the Dockwright workspace.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Measures engine starts, container lives and rebuilds, beside a Docker daemon started for it, and prints a table.
    Bench {
        /// How many engines to start.
        #[arg(long, default_value_t = 1000)]
        engines: usize,
        /// How many containers to run on each side.
        #[arg(long, default_value_t = 100)]
        containers: usize,
        /// How many rebuilds to make on each side.
        #[arg(long, default_value_t = 20)]
        builds: usize,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a chore's only output is for whoever runs it")]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    match chore {
        Chore::Bench { engines, containers, builds } => {
            let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("find the workspace")?;
            checked(Command::new(top.join("scripts/stand-in-images")).arg(top.join("target/stand-ins")).env("STAND_INS", "busybox"))?;
            checked(
                Command::new(env::var_os("CARGO").context("run this through cargo")?)
                    .current_dir(top)
                    .args(["bench", "--locked", "-p", "dockwright", "--bench", "engine", "--"])
                    .args(["--engines", &engines.to_string(), "--containers", &containers.to_string(), "--builds", &builds.to_string()]),
            )
        }
    }
}

fn checked(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
