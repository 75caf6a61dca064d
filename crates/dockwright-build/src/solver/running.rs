//! `RUN`.

use super::{Solver, StepError, history, metadata, stage::StageState};
use crate::{
    backend::{BuildStep, RunSpec},
    cache::Inputs,
    copy,
    dockerfile::{Step, instruction::Run, parser::Heredoc},
    progress::BuildEvent,
};
use dockwright_store::DiffId;

/// Name, in the root, of a here-document that is run as a file; there only while it runs.
const SCRIPT_NAME: &str = ".dockwright-run";

impl Solver<'_> {
    pub(super) fn run(&mut self, step: &Step, run: &Run, state: &mut StageState) -> Result<(), StepError> {
        let argv = metadata::argv(&run.command, state);
        let build_args: Vec<(String, String)> = state.args.values().filter(|(name, _)| state.env(name).is_none()).collect();
        let entry = |(name, value): &(String, String)| format!("{name}={value}");
        let mut recorded: Vec<String> = build_args.iter().filter(|(name, _)| state.args.is_recorded(name)).map(entry).collect();
        recorded.sort();
        let created_by = history::run((!build_args.is_empty()).then_some(&recorded), &argv);

        let mut spec = self.run_spec(argv, run, state);
        let inputs = run_inputs(&spec, run, &recorded, state);
        spec.env.extend(build_args.iter().map(entry));
        self.settle(step, state, &inputs, &created_by, |solver, state| solver.execute(&spec, run.script.as_ref(), state))
    }

    fn run_spec(&self, argv: Vec<String>, run: &Run, state: &StageState) -> RunSpec {
        let config = &state.image.config;
        let mut limits = self.options.limits.clone();
        if let Some(network) = run.network.as_deref().filter(|network| *network != "default") {
            network.clone_into(&mut limits.network);
        }
        RunSpec {
            argv: if run.script.is_some() { vec![format!("/{SCRIPT_NAME}")] } else { argv },
            env: config.env.clone(),
            working_dir: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() },
            user: config.user.clone(),
            volumes: config.volumes.keys().cloned().collect(),
            limits,
        }
    }

    fn execute(&mut self, spec: &RunSpec, script: Option<&Heredoc>, state: &StageState) -> Result<Option<DiffId>, StepError> {
        let mut made = self.backend.begin_step(state.layers()).map_err(StepError::backend("prepare the image's files"))?;
        let container = made.container_id().to_owned();
        self.emit(BuildEvent::Running { container: container.clone() });
        self.make_working_directory(made.as_ref(), spec)?;
        let code = self.run_in(made.as_mut(), spec, script)?;
        if self.cancel.is_cancelled() {
            return Err(super::BuildError::Cancelled.into());
        }
        if code != 0 {
            return Err(StepError::CommandFailed { command: spec_text(spec, script), code });
        }
        let layer = made.commit().map_err(StepError::backend("store the layer"))?;
        if self.options.remove_containers {
            self.emit(BuildEvent::Removed { container });
        }
        Ok(layer.map(|layer| layer.diff_id))
    }

    /// An image may name a working directory that it does not hold.
    fn make_working_directory(&self, made: &dyn BuildStep, spec: &RunSpec) -> Result<(), StepError> {
        let result = super::metadata::make_directory(made.root(), &spec.working_dir, self);
        result.map_err(|source| StepError::Write { keyword: "RUN", source })
    }

    fn run_in(&mut self, made: &mut dyn BuildStep, spec: &RunSpec, script: Option<&Heredoc>) -> Result<i32, StepError> {
        let failed = |source| StepError::Read { path: SCRIPT_NAME.into(), source };
        if let Some(script) = script {
            copy::put_script(made.root(), SCRIPT_NAME, &script.body).map_err(failed)?;
        }
        let events = &mut *self.events;
        let mut output = |stream, bytes: &[u8]| events(BuildEvent::Output { stream, bytes: bytes.to_vec() });
        let code = made.run(spec, &mut output, self.cancel).map_err(StepError::backend("run the command"))?;
        if script.is_some() {
            copy::remove_script(made.root(), SCRIPT_NAME).map_err(failed)?;
        }
        Ok(code)
    }
}

fn spec_text(spec: &RunSpec, script: Option<&Heredoc>) -> String {
    script.map_or_else(|| spec.argv.join(" "), |script| script.word.clone())
}

/// Everything that the process can see, but for limits and undeclared proxies.
fn run_inputs(spec: &RunSpec, run: &Run, recorded: &[String], state: &StageState) -> Inputs {
    let script = run.script.as_ref().map(|script| script.body.as_str()).unwrap_or_default();
    let framed_argv = serde_json::to_vec(&spec.argv).expect("strings are valid JSON");
    let mut inputs = state
        .inputs()
        .with_digest("argument list", &framed_argv)
        .with_digest("script", script.as_bytes())
        .with("user", &spec.user)
        .with("working directory", &spec.working_dir)
        .with("volumes", spec.volumes.join("\n"))
        .with("network", &spec.limits.network)
        .with("extra hosts", spec.limits.extra_hosts.join("\n"));
    for (kind, entries) in [("environment", &spec.env[..]), ("build argument", recorded)] {
        for entry in entries {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            inputs = inputs.with_digest(format!("{kind} {name}"), value.as_bytes());
        }
    }
    inputs
}
