//! Chores of the workspace: `cargo xtask bench`.

use std::{
    env, fs,
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
    /// Measures a part of Dockwright and prints a table; without a part, the engine.
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(subcommand)]
        part: Option<Part>,
        #[command(flatten)]
        engine: EngineCounts,
    },
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Engine starts, container lives and rebuilds, beside a Docker daemon started for it.
    Engine(EngineCounts),
    /// Large configurations, and `dockwright list` beside `gitlab-ci-local` if that is on the PATH.
    Language,
    /// How soon a queued job has run.
    Coordinator,
}

/// How often the bench of the engine measures each thing.
#[derive(Debug, clap::Args)]
struct EngineCounts {
    /// How many engines to start.
    #[arg(long, default_value_t = 1000)]
    engines: usize,
    /// How many containers to run on each side.
    #[arg(long, default_value_t = 100)]
    containers: usize,
    /// How many rebuilds to make on each side.
    #[arg(long, default_value_t = 20)]
    builds: usize,
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
    let Chore::Bench { part, engine } = chore;
    match part.unwrap_or(Part::Engine(engine)) {
        Part::Engine(counts) => bench_engine(&counts),
        Part::Language => {
            bench("dockwright-pipeline", "scale", &[])?;
            bench("dockwright", "list", &[])
        }
        Part::Coordinator => bench_coordinator(),
    }
}

/// Jobs in the shell begin with a login shell, and what the profile of whoever runs the bench does is not ours to measure.
fn bench_coordinator() -> Result<()> {
    let home = env::temp_dir().join(format!("dockwright-bench-{}", std::process::id()));
    fs::create_dir(&home).with_context(|| format!("create {}", home.display()))?;
    let result = bench_with("dockwright", "coordinator", &[], |command| {
        for (variable, directory) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            if env::var_os(variable).is_none()
                && let Some(usual) = env::home_dir()
            {
                command.env(variable, usual.join(directory));
            }
        }
        command.env("HOME", &home);
    });
    let _ = fs::remove_dir_all(&home);
    result
}

fn bench_engine(counts: &EngineCounts) -> Result<()> {
    let top = top()?;
    checked(Command::new(top.join("scripts/stand-in-images")).arg(top.join("target/stand-ins")).env("STAND_INS", "busybox"))?;
    let EngineCounts { engines, containers, builds } = counts;
    let arguments = [format!("--engines={engines}"), format!("--containers={containers}"), format!("--builds={builds}")];
    bench("dockwright", "engine", &arguments)
}

fn bench(package: &str, name: &str, arguments: &[String]) -> Result<()> {
    bench_with(package, name, arguments, |_| ())
}

fn bench_with(package: &str, name: &str, arguments: &[String], prepare: impl FnOnce(&mut Command)) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").context("run this through cargo")?);
    command.current_dir(top()?).args(["bench", "--locked", "-p", package, "--bench", name, "--"]).args(arguments);
    prepare(&mut command);
    checked(&mut command)
}

fn top() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("find the workspace")
}

fn checked(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
