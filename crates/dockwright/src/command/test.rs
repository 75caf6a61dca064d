//! `dockwright test`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dockwright_pipeline::{Case, Diagnostic, Sources, has_errors, read_cases};

use crate::{
    cli::TestArgs,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::{FAILURE, SUCCESS, Streams, print_problem},
    settings::{GlobalSettings, ProjectSettings},
    wire::{Checkout, LoadedPipeline},
};

const DEFAULT_FILE: &str = ".gitlab-ci.test.yml";

pub(super) fn run(arguments: &TestArgs, settings: &GlobalSettings, streams: Streams) -> Result<ExitCode, CommandError> {
    let project = ProjectSettings::decide(&arguments.project, &settings.file.run)?;
    let file = arguments.tests.clone().map_or_else(|| nearest_file(&project.directory), Ok)?;
    let mut sources = Sources::default();
    let cases = read(&file, &mut sources)?;
    let mut failed = 0;
    for case in &cases {
        if holds(case, &project, settings, &sources)? {
            streams.data(format!("{SUCCESS}ok{SUCCESS:#}      {}", case.name));
        } else {
            failed += 1;
            streams.data(format!("{FAILURE}failed{FAILURE:#}  {}", case.name));
        }
    }
    streams.say(format!("{} passed, {failed} failed", cases.len() - failed));
    Ok(if failed == 0 { ExitCode::Success } else { ExitCode::JobFailed })
}

fn nearest_file(directory: &Path) -> Result<PathBuf, CommandError> {
    let mut candidates = directory.ancestors().map(|directory| directory.join(DEFAULT_FILE));
    candidates.find(|file| file.is_file()).ok_or_else(|| {
        CommandError::configuration(format!("there is no `{DEFAULT_FILE}`"))
            .hint("write one as `dockwright test --help` shows, or name another file")
    })
}

fn read(file: &Path, sources: &mut Sources) -> Result<Vec<Case>, CommandError> {
    let text = fs::read_to_string(file).explain(ErrorKind::Configuration, || format!("read tests `{}`", file.display()))?;
    let source = sources.add(file.display().to_string(), text);
    let (cases, problems) = read_cases(source, sources);
    print_problems(&problems, sources);
    if has_errors(&problems) {
        return Err(CommandError::configuration(format!("`{}` is not a valid file of tests", file.display())));
    }
    Ok(cases)
}

/// Evaluates the pipeline of a case, and prints what does not hold in it.
fn holds(case: &Case, project: &ProjectSettings, settings: &GlobalSettings, sources: &Sources) -> Result<bool, CommandError> {
    let project = project.for_situation(&case.situation)?;
    let checkout = Checkout::temporary()?;
    let loaded = LoadedPipeline::load(&project, settings, None, checkout.path())?;
    if !loaded.is_understood {
        loaded.report_problems()?;
    }
    // Such as a job that needs one which is left out: wrong for this case only.
    let errors: Vec<Diagnostic> = loaded.problems.iter().filter(|problem| problem.is_error()).cloned().collect();
    print_problems(&errors, &loaded.sources);
    if !errors.is_empty() {
        return Ok(false);
    }
    let failures = case.check(&loaded.config, &loaded.context, &loaded.pipeline);
    print_problems(&failures, sources);
    Ok(failures.is_empty())
}

fn print_problems(problems: &[Diagnostic], sources: &Sources) {
    for problem in problems {
        print_problem(problem, sources);
    }
}
