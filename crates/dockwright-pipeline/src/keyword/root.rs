//! The root of a configuration: global keywords, and every other key a job.

use super::{
    Reader,
    default::{self, Shared},
    environment,
    job::{self, Inherited, Jobs},
    parallel, present,
    shape::{Keys, Shape, UNDESCRIBED},
    variables::{self, Variables},
    workflow::{self, Workflow},
};
use crate::{
    compose,
    config::Config,
    diagnostic::Diagnostic,
    yaml::{Entry, Map, Node},
};

/// Keywords of the root. `include` is gone when the root is read.
pub(super) const KEYWORDS: &[&str] =
    &["default", "include", "before_script", "image", "services", "after_script", "variables", "stages", "cache", "workflow", "spec"];

/// Keywords that may stand at the root instead of in `default`.
pub(super) const GLOBAL_DEFAULTS: &[&str] = &["image", "services", "cache", "before_script", "after_script"];

const MAX_STAGE_CHARS: usize = 255;

/// Reads a merged configuration.
pub(crate) fn read(root: &Map, problems: &mut Vec<Diagnostic>) -> Config {
    let mut reader = Reader::new(problems);
    let defaults = defaults(&mut reader, root);
    let variables: Variables =
        present(root, "variables").and_then(|entry| variables::read_root(&mut reader, "variables", &entry.value)).unwrap_or_default();
    let workflow = present(root, "workflow").map_or_else(Workflow::default, |entry| workflow::read(&mut reader, &entry.value));
    let stages = stages(&mut reader, root);
    let jobs = jobs(&mut reader, root, &Inherited { defaults: &defaults, variables: &variables });
    let jobs = parallel::expand(jobs, &mut reader);
    environment::check_on_stop(&jobs, &mut reader);
    Config { stages, variables, workflow, jobs }
}

fn defaults(reader: &mut Reader<'_>, root: &Map) -> Shared {
    let written = present(root, "default");
    for key in GLOBAL_DEFAULTS {
        let twin = written.and_then(|entry| entry.value.as_map()).and_then(|map| present(map, key));
        if let (Some(global), Some(twin)) = (present(root, key), twin) {
            let message = format!("{key} is defined in top-level and `default:` entry");
            reader.report(
                Diagnostic::error("default-twice", message)
                    .at(global.key)
                    .also(twin.key, "and here")
                    .help("remove the one at the top level"),
            );
        }
    }
    let mut shared = written.map_or_else(Shared::default, |entry| default::read(reader, &entry.value));
    let globals: Map = GLOBAL_DEFAULTS.iter().filter_map(|key| Some(((*key).to_owned(), root.get(*key)?.clone()))).collect();
    let globals = default::read_shared(reader, "", &globals);
    shared.image = shared.image.or(globals.image);
    shared.services = shared.services.or(globals.services);
    shared.cache = shared.cache.or(globals.cache);
    shared.before_script = shared.before_script.or(globals.before_script);
    shared.after_script = shared.after_script.or(globals.after_script);
    shared
}

fn stages(reader: &mut Reader<'_>, root: &Map) -> Vec<String> {
    let written = present(root, "stages").and_then(|entry| stage_names(reader, &entry.value));
    let named = written.unwrap_or_else(|| ["build", "test", "deploy"].map(str::to_owned).to_vec());
    let mut stages = vec![".pre".to_owned()];
    for stage in named {
        // Wherever these two are written, they are first and last.
        if !stages.contains(&stage) && stage != ".post" {
            stages.push(stage);
        }
    }
    stages.push(".post".to_owned());
    stages
}

fn stage_names(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<String>> {
    if node.as_list().is_none() {
        reader.wrong_type("stages", node, "a nested array of strings up to 10 levels deep");
        return None;
    }
    let names = reader.nested_texts("stages", node)?;
    if names.iter().any(|name| name.chars().count() > MAX_STAGE_CHARS) {
        let message = format!("stages config has a name that is too long (maximum is {MAX_STAGE_CHARS} characters)");
        reader.report(Diagnostic::error("stage-name", message).at(node.span));
    }
    Some(names)
}

fn jobs(reader: &mut Reader<'_>, root: &Map, inherited: &Inherited<'_>) -> Jobs {
    let mut jobs = Jobs::new();
    let mut has_visible = false;
    for (name, entry) in root.iter().filter(|(name, _)| !KEYWORDS.contains(&name.as_str())) {
        if name.starts_with('.') {
            check_hidden(reader, name, entry);
            continue;
        }
        has_visible = true;
        if let Some(job) = job::read(reader, name, entry, inherited) {
            jobs.insert(name.clone(), job);
        }
    }
    if !has_visible {
        let place = root.first().map(|(_, entry)| entry.key);
        let mut problem = Diagnostic::error("no-visible-job", "jobs config should contain at least one visible job")
            .help("only global keywords and hidden entries are here: add a job, or `include` this file in a configuration that has jobs");
        problem.span = place;
        reader.report(problem);
    }
    jobs
}

fn check_hidden(reader: &mut Reader<'_>, name: &str, entry: &Entry) {
    if entry.value.is_null() {
        let message = format!("jobs:{name} config can't be blank");
        reader.report(Diagnostic::error("hidden-blank", message).at(entry.key).help("remove it, or give it a value"));
    }
}

/// Describes a configuration.
pub(super) fn shape() -> Shape {
    let Shape::Map(Keys { known, .. }) = Shape::map(KEYWORDS, key_shape) else { unreachable!("a mapping was made") };
    Shape::Map(Keys { known, other: Some(Box::new(job::shape())) })
}

fn key_shape(key: &str) -> (&'static str, Shape) {
    match key {
        "default" => ("Keywords that jobs take over when they do not have them themselves.", default::shape()),
        "include" => ("Other files; what they say is merged below this one.", compose::include_shape()),
        "variables" => ("Variables of all jobs.", variables::root_shape()),
        "stages" => ("The stages in their order.", Shape::nested(Shape::Text)),
        "workflow" => ("Whether there is a pipeline, and what it is like.", workflow::shape()),
        "spec" => ("Header of the file: its inputs. A line `---` ends it.", compose::spec_shape()),
        _ if GLOBAL_DEFAULTS.contains(&key) => job::key_shape(key),
        _ => UNDESCRIBED,
    }
}
