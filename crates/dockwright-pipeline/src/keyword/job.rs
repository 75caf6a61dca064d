//! A job: its keys, composed with the defaults.

use indexmap::IndexMap;

use super::{
    Reader, allow_failure,
    coverage::{self, Coverage},
    default::{self, Shared},
    duration, environment,
    inherit::{self, Inheritance},
    needs::{self, Needs},
    only::{self, Policy},
    pages,
    parallel::{self, Parallel},
    present, release,
    rules::{self, Rule},
    run, script, server_side,
    shape::{Name, Shape, UNDESCRIBED},
    start_in, trigger, unsupported,
    variables::{self, Variables},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::{AllowFailure, Artifacts, Bridge, Cache, Environment, Image, Need, Node, OtherNeed, Release, Retry, When},
    source::Span,
    suggestion::nearest,
    yaml::{Entry, Map},
};

const MAX_NAME_CHARS: usize = 255;
const MAX_TAGS: usize = 49;

const KEYS: &[&str] = &[
    "script",
    "before_script",
    "after_script",
    "hooks",
    "run",
    "stage",
    "extends",
    "image",
    "services",
    "variables",
    "rules",
    "only",
    "except",
    "when",
    "allow_failure",
    "manual_confirmation",
    "start_in",
    "needs",
    "dependencies",
    "artifacts",
    "cache",
    "tags",
    "parallel",
    "retry",
    "timeout",
    "interruptible",
    "resource_group",
    "environment",
    "coverage",
    "release",
    "id_tokens",
    "secrets",
    "identity",
    "dast_configuration",
    "pages",
    "publish",
    "inherit",
    "inputs",
    "trigger",
];

const WHEN: &[(&str, When)] = &[
    ("on_success", When::OnSuccess),
    ("on_failure", When::OnFailure),
    ("always", When::Always),
    ("manual", When::Manual),
    ("delayed", When::Delayed),
];

/// A job before rules decide about it.
#[derive(Debug, Clone)]
pub(crate) struct JobConfig {
    pub(crate) name: String,
    /// The entry of the configuration that the job is made of: its name, unless that has `parallel`.
    pub(crate) group: String,
    pub(crate) span: Span,
    pub(crate) stage: String,
    /// Where the stage is named; the job's name when it is not.
    pub(crate) stage_span: Span,
    pub(crate) image: Option<Image>,
    pub(crate) services: Vec<Image>,
    /// Root variables that the job inherits, and its own.
    pub(crate) variables: Variables,
    pub(crate) own_variables: Variables,
    pub(crate) script: Vec<String>,
    pub(crate) after_script: Vec<String>,
    pub(crate) pre_get_sources_script: Vec<String>,
    pub(crate) rules: Option<Vec<Rule>>,
    pub(crate) only: Option<Policy>,
    pub(crate) except: Option<Policy>,
    pub(crate) when: Option<When>,
    pub(crate) start_in_secs: Option<u64>,
    pub(crate) allow_failure: Option<AllowFailure>,
    pub(crate) needs: Option<Vec<Need>>,
    pub(crate) other_needs: Vec<OtherNeed>,
    pub(crate) dependencies: Option<Vec<(String, Span)>>,
    pub(crate) artifacts: Option<Artifacts>,
    pub(crate) cache: Vec<Cache>,
    pub(crate) timeout_secs: Option<u64>,
    pub(crate) retry: Retry,
    pub(crate) tags: Vec<String>,
    pub(crate) interruptible: bool,
    pub(crate) environment: Option<Environment>,
    /// The job that stops the environment.
    pub(crate) on_stop: Option<(String, Span)>,
    pub(crate) resource_group: Option<String>,
    pub(crate) coverage: Option<Coverage>,
    /// It has `run`.
    pub(crate) has_steps: bool,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) release: Option<Release>,
    /// Absent once the jobs are made.
    pub(crate) parallel: Option<Parallel>,
    pub(crate) node: Option<Node>,
    /// Values of `parallel:matrix`; they are among the variables too.
    pub(crate) matrix: IndexMap<String, String>,
}

/// What jobs inherit from the root.
pub(super) struct Inherited<'a> {
    pub(super) defaults: &'a Shared,
    pub(super) variables: &'a Variables,
}

/// Reads a visible job.
pub(super) fn read(reader: &mut Reader<'_>, name: &str, entry: &Entry, inherited: &Inherited<'_>) -> Option<JobConfig> {
    let at = format!("jobs:{name}");
    check_name(reader, name, entry);
    let map = job_map(reader, name, entry)?;
    let is_bridge = present(map, "trigger").is_some();
    reader.unknown_keys(&at, map, if is_bridge { trigger::JOB_KEYS } else { KEYS });
    unsupported::report_in_job(reader, &at, map);
    server_side::check(reader, &at, map);
    exclusive_keys(reader, &at, map);
    if let Some(entry) = present(map, "run") {
        run::check(reader, &at, entry);
    }
    let inheritance =
        present(map, "inherit").map_or_else(Inheritance::default, |entry| inherit::read(reader, &format!("{at}:inherit"), &entry.value));
    let mut shared = compose(default::read_shared(reader, &format!("{at}:"), map), inherited.defaults, &inheritance);
    let own_variables = present(map, "variables")
        .and_then(|entry| variables::read_job(reader, &format!("{at}:variables"), &entry.value))
        .unwrap_or_default();
    let main = present(map, "script").map_or_else(Vec::new, |entry| script::read_main(reader, &format!("{at}:script"), entry));
    let stage = present(map, "stage");
    check_tags(reader, &at, map);
    pages::read(reader, &at, name, map, &mut shared.artifacts);
    let when = when(reader, &at, map);
    let needs = needs(reader, &at, map, is_bridge);
    Some(JobConfig {
        name: name.to_owned(),
        group: name.to_owned(),
        span: entry.key,
        stage: stage.and_then(|entry| reader.text(&format!("{at} stage"), &entry.value)).unwrap_or_else(|| "test".to_owned()),
        stage_span: stage.map_or(entry.key, |entry| entry.value.span),
        image: shared.image,
        services: shared.services.unwrap_or_default(),
        variables: inherited_variables(inherited.variables, &inheritance, &own_variables),
        own_variables,
        script: shared.before_script.unwrap_or_default().into_iter().chain(main).collect(),
        after_script: shared.after_script.unwrap_or_default(),
        pre_get_sources_script: shared.pre_get_sources_script.unwrap_or_default(),
        rules: present(map, "rules").and_then(|entry| rules::read_job_rules(reader, &format!("{at}:rules"), &entry.value)),
        only: present(map, "only").and_then(|entry| only::read(reader, &format!("{at}:only"), &entry.value)),
        except: present(map, "except").and_then(|entry| only::read(reader, &format!("{at}:except"), &entry.value)),
        when,
        start_in_secs: present(map, "rules").is_none().then(|| start_in::read(reader, &at, map, when == Some(When::Delayed))).flatten(),
        allow_failure: present(map, "allow_failure")
            .and_then(|entry| allow_failure::read(reader, &format!("{at}:allow_failure"), &entry.value)),
        needs: needs.as_ref().map(|needs| needs.jobs.clone()),
        other_needs: needs.map(|needs| needs.others).unwrap_or_default(),
        dependencies: present(map, "dependencies").and_then(|entry| dependencies(reader, &at, entry)),
        artifacts: shared.artifacts,
        cache: shared.cache.unwrap_or_default(),
        timeout_secs: present(map, "timeout").and_then(|entry| duration::read_timeout(reader, &format!("{at}:timeout"), &entry.value)),
        retry: shared.retry.unwrap_or_default(),
        tags: shared.tags.unwrap_or_default(),
        interruptible: shared.interruptible.unwrap_or(false),
        environment: present(map, "environment").and_then(|entry| environment::read(reader, &format!("{at}:environment"), &entry.value)),
        on_stop: present(map, "environment")
            .and_then(|entry| environment::read_on_stop(reader, &format!("{at}:environment"), &entry.value)),
        has_steps: present(map, "run").is_some(),
        bridge: present(map, "trigger").and_then(|entry| trigger::read(reader, &format!("{at}:trigger"), &entry.value)),
        release: present(map, "release").and_then(|entry| release::read(reader, &format!("{at}:release"), &entry.value)),
        coverage: present(map, "coverage").and_then(|entry| coverage::read(reader, &format!("{at}:coverage"), &entry.value)),
        resource_group: present(map, "resource_group").and_then(|entry| resource_group(reader, &at, entry)),
        parallel: present(map, "parallel").and_then(|entry| parallel::read(reader, &format!("{at}:parallel"), &entry.value)),
        node: None,
        matrix: IndexMap::new(),
    })
}

fn needs(reader: &mut Reader<'_>, at: &str, map: &Map, is_bridge: bool) -> Option<Needs> {
    let (at, entry) = (format!("{at}:needs"), present(map, "needs")?);
    if is_bridge {
        let jobs = needs::read_own(reader, &at, &entry.value)?;
        return Some(Needs { jobs, others: Vec::new() });
    }
    needs::read(reader, &at, &entry.value)
}

fn check_name(reader: &mut Reader<'_>, name: &str, entry: &Entry) {
    if !entry.key_is_text {
        let message = format!("jobs:{name} name should be a symbol");
        reader.report(Diagnostic::error("job-name", message).at(entry.key).help("put the name in quotes, or give the job a name in words"));
    }
    if name.trim().is_empty() {
        reader.report(Diagnostic::error("job-name", "jobs:job name can't be blank").at(entry.key));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        let message = format!("jobs:job name is too long (maximum is {MAX_NAME_CHARS} characters)");
        reader.report(Diagnostic::error("job-name", message).at(entry.key));
    }
}

/// Returns the keys of a job; anything that GitLab takes for no job is reported.
fn job_map<'n>(reader: &mut Reader<'_>, name: &str, entry: &'n Entry) -> Option<&'n Map> {
    let map = entry.value.as_map();
    if map.is_some_and(|map| ["script", "run", "trigger"].iter().any(|key| present(map, key).is_some())) {
        return map;
    }
    if map.is_some_and(|map| present(map, "needs").is_some()) {
        let message = format!("jobs:{name} config should contain either a trigger or a needs:pipeline");
        reader.report(Diagnostic::error("job-without-script", message).at(entry.key).help("add `script`"));
        return None;
    }
    let message = format!("jobs {name} config should implement the script:, run:, or trigger: keyword");
    let problem = Diagnostic::error("job-without-script", message);
    let slip = map.and_then(|map| map.iter().find(|(key, _)| !KEYS.contains(&key.as_str()) && nearest(key, ["script"]).is_some()));
    reader.report(match slip {
        Some((key, slip)) => problem.at(slip.key).help(format!("did you mean `script` instead of `{key}`?")),
        None => problem.at(entry.key).help(missing_script_help(name)),
    });
    None
}

fn missing_script_help(name: &str) -> String {
    if KEYS.contains(&name) {
        return format!("`{name}` is a keyword of jobs: put it, indented, under a job's name");
    }
    match nearest(name, super::root::KEYWORDS.iter().copied()) {
        Some(keyword) => format!("did you mean the keyword `{keyword}`? Otherwise add `script`, or hide the entry by the name `.{name}`"),
        None => format!("add `script`, or, if it is only there to be extended, rename it to `.{name}`"),
    }
}

fn exclusive_keys(reader: &mut Reader<'_>, at: &str, map: &Map) {
    for (left, right) in [("script", "run"), ("before_script", "run"), ("after_script", "run"), ("script", "trigger"), ("run", "trigger")] {
        if let (Some(left_entry), Some(right_entry)) = (present(map, left), present(map, right)) {
            let message = format!("{at} config these keys cannot be used together: {left}, {right}");
            reader.report(Diagnostic::error("exclusive-keys", message).at(right_entry.key).also(left_entry.key, "the other one"));
        }
    }
    for key in ["only", "except", "start_in"] {
        if let (Some(rules), Some(entry)) = (present(map, "rules"), present(map, key)) {
            let message = format!("{at} config key may not be used with `rules`: {key}");
            reader.report(Diagnostic::error("exclusive-keys", message).at(entry.key).also(rules.key, "`rules` are here"));
        }
    }
}

fn compose(own: Shared, defaults: &Shared, inheritance: &Inheritance) -> Shared {
    macro_rules! composed {
        ($($field:ident from $key:literal),* $(,)?) => {
            Shared { $($field: own.$field.or_else(|| defaults.$field.clone().filter(|_| inheritance.default.includes($key)))),* }
        };
    }
    composed! {
        image from "image",
        services from "services",
        before_script from "before_script",
        after_script from "after_script",
        pre_get_sources_script from "hooks",
        artifacts from "artifacts",
        cache from "cache",
        retry from "retry",
        tags from "tags",
        interruptible from "interruptible",
    }
}

fn inherited_variables(root: &Variables, inheritance: &Inheritance, own: &Variables) -> Variables {
    let mut variables: Variables = root
        .iter()
        .filter(|(name, _)| inheritance.variables.includes(name))
        .map(|(name, variable)| (name.clone(), variable.clone()))
        .collect();
    variables.extend(own.clone());
    variables
}

fn when(reader: &mut Reader<'_>, at: &str, map: &Map) -> Option<When> {
    reader.one_of(&format!("{at} when"), &present(map, "when")?.value, WHEN)
}

fn resource_group(reader: &mut Reader<'_>, at: &str, entry: &Entry) -> Option<String> {
    let name = reader.text(&format!("{at}:resource_group"), &entry.value)?;
    let is_name = |next: char| next.is_alphanumeric() || "-_/${}. ".contains(next);
    if name.chars().count() > MAX_NAME_CHARS || !name.chars().all(is_name) || name.trim().is_empty() {
        let message = format!("{at}:resource_group can contain only letters, digits, '-', '_', '/', '$', '{{', '}}', '.', and spaces");
        reader.report(Diagnostic::error("resource-group", message).at(entry.value.span).help("and at most 255 of them"));
    }
    Some(name)
}

fn dependencies(reader: &mut Reader<'_>, at: &str, entry: &Entry) -> Option<Vec<(String, Span)>> {
    let names = reader.texts(&format!("{at} dependencies"), &entry.value)?;
    let spans = entry.value.as_list()?.iter().map(|item| item.span);
    Some(names.into_iter().zip(spans).collect())
}

fn check_tags(reader: &mut Reader<'_>, at: &str, map: &Map) {
    if let Some(entry) = present(map, "tags").filter(|entry| entry.value.as_list().is_some_and(|tags| tags.len() > MAX_TAGS)) {
        reader.report(Diagnostic::error("tags-limit", format!("{at}:tags config must be less than the limit of 50 tags")).at(entry.key));
    }
}

/// Jobs by name, in the order of the configuration.
pub(crate) type Jobs = IndexMap<String, JobConfig>;

/// Describes a job.
pub(super) fn shape() -> Shape {
    Shape::map(KEYS, key_shape)
}

/// Describes a key of a job.
pub(super) fn key_shape(key: &str) -> (&'static str, Shape) {
    match key {
        "script" => ("Commands of the job. The job fails with the first that does.", script::shape()),
        "before_script" => ("Commands before `script`, in the same shell.", script::shape()),
        "after_script" => {
            ("Commands after `script` in a shell of their own, also when it failed. They cannot fail the job.", script::shape())
        }
        "hooks" => ("Commands at other points of the job.", script::hooks_shape()),
        "run" => ("Steps instead of a script.", run::shape()),
        "stage" => ("The stage of the job; without it, `test`.", Shape::Name(Name::Stage)),
        "extends" => (
            "Entries that the job takes over: mappings are merged key by key, anything else is replaced.",
            Shape::one_or_list(Shape::Name(Name::Entry)),
        ),
        "image" => ("The image of the container that the job runs in.", super::image::shape()),
        "services" => ("Containers beside the job, such as a database.", super::image::services_shape()),
        "variables" => ("Variables of the job; they win over those of the root.", variables::job_shape()),
        "rules" => ("Whether and how the job is part of the pipeline: the first rule that matches decides.", rules::job_shape()),
        "only" => ("Pipelines that the job is part of. `rules` say the same and more.", only::shape()),
        "except" => ("Pipelines that the job is not part of. `rules` say the same and more.", only::shape()),
        "when" => ("When the job starts.", Shape::words(WHEN)),
        "allow_failure" => ("Whether the pipeline goes on when the job fails.", allow_failure::shape()),
        "manual_confirmation" => ("What people are asked before they start the manual job.", Shape::Text),
        "start_in" => ("How long a delayed job waits, such as `30 minutes`.", Shape::Text),
        "needs" => ("Jobs that this one waits for, instead of all of the earlier stages.", needs::shape()),
        "dependencies" => {
            ("Jobs whose artifacts are downloaded, instead of all of the earlier stages.", Shape::list(Shape::Name(Name::Job)))
        }
        "artifacts" => ("Files that the job leaves for later jobs and for people.", super::artifacts::shape()),
        "cache" => ("Files that are kept for the next pipelines, to save time.", super::cache::shape()),
        "tags" => ("Tags that a runner must have to take the job.", Shape::list(Shape::Text)),
        "parallel" => ("Makes several jobs of this one.", parallel::shape()),
        "retry" => ("How often, and after which failures, the job runs again.", super::retry::shape()),
        "timeout" => ("How long the job may take, such as `1h 30m`.", Shape::Text),
        "interruptible" => ("Whether a newer pipeline may cancel the job.", Shape::Boolean),
        "resource_group" => ("Jobs of the same group never run at the same time.", Shape::Text),
        "environment" => ("Where the job deploys to.", environment::shape()),
        "coverage" => ("A pattern between slashes that finds the coverage in the job's output.", Shape::Text),
        "release" => ("The release that GitLab makes after the job.", super::release::shape()),
        "id_tokens" => ("Signed tokens by which the job logs in elsewhere.", server_side::id_tokens_shape()),
        "secrets" => ("Secrets that are fetched from a vault.", server_side::secrets_shape()),
        "identity" => ("A cloud identity for the job.", server_side::identity_shape()),
        "dast_configuration" => ("Profiles of a security scan.", server_side::dast_shape()),
        "pages" => ("Serves a directory as a web site.", pages::shape()),
        "publish" => ("The directory of the web site; write `pages: {publish: …}` instead.", Shape::Text),
        "inherit" => ("What the job takes over from `default` and the root's variables.", inherit::shape()),
        "inputs" => ("Inputs of the job.", Shape::Any),
        "trigger" => ("Starts another pipeline instead of a script.", trigger::shape()),
        _ => UNDESCRIBED,
    }
}
