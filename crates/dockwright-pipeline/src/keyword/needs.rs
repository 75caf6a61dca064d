//! `needs`: the jobs that a job waits for, instead of all earlier stages, and jobs elsewhere whose artifacts it gets.

use super::{
    Reader, parallel, present,
    server_side::required,
    shape::{Name, Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::{Need, OtherNeed},
    yaml::{Map, Node, Value},
};

const KEYS: &[&str] = &["job", "artifacts", "optional", "parallel"];
const PIPELINE_KEYS: &[&str] = &["pipeline", "job", "artifacts"];
const PROJECT_KEYS: &[&str] = &["project", "ref", "job", "artifacts"];
/// Most needs of jobs of other pipelines, and most of other projects.
const MAX_OF_OTHERS: usize = 5;

/// `needs`, by what it is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    pub(crate) jobs: Vec<Need>,
    pub(crate) others: Vec<OtherNeed>,
}

/// Reads `needs` of a job.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Needs> {
    let mut needs = Needs::default();
    for item in items(reader, at, node)? {
        one(reader, at, item, &mut needs);
    }
    let of_projects = needs.others.iter().filter(|need| matches!(need, OtherNeed::Project { .. })).count();
    if of_projects.max(needs.others.len() - of_projects) > MAX_OF_OTHERS {
        let message = format!("{at} config must be less than or equal to {MAX_OF_OTHERS}");
        reader
            .report(Diagnostic::error("needs-limit", message).at(node.span).help("this is about needs with `pipeline` and with `project`"));
    }
    Some(needs)
}

/// Reads `needs` of a rule or of a job with `trigger`, which can be of the same pipeline only.
pub(super) fn read_own(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Need>> {
    let needs = read(reader, at, node)?;
    if !needs.others.is_empty() {
        let message = format!("{at} config uses invalid types: cross_dependency");
        reader.report(Diagnostic::error("needs-type", message).at(node.span).help("only jobs of the same pipeline can be needed here"));
    }
    Some(needs.jobs)
}

fn items<'n>(reader: &mut Reader<'_>, at: &str, node: &'n Node) -> Option<Vec<&'n Node>> {
    match &node.value {
        Value::List(_) => node.flat_items(),
        Value::Text(_) | Value::Map(_) => Some(vec![node]),
        _ => {
            reader.wrong_type(at, node, "an array, a hash or a string");
            None
        }
    }
}

fn one(reader: &mut Reader<'_>, at: &str, node: &Node, needs: &mut Needs) {
    let at = format!("{at}:need");
    match &node.value {
        Value::Text(job) => needs.jobs.push(Need { job: job.clone(), artifacts: true, optional: false, span: node.span }),
        Value::Map(map) if present(map, "project").is_some() => needs.others.extend(of_project(reader, &at, node, map)),
        Value::Map(map) if present(map, "pipeline").is_some() => needs.others.extend(of_pipeline(reader, &at, node, map)),
        Value::Map(map) => needs.jobs.extend(mapping(reader, &at, node, map).unwrap_or_default()),
        // An item with nothing in it is an entry that nobody specified (`Entry::Unspecified`), which has no need.
        Value::Null => {}
        _ => reader.wrong_type(&at, node, "a hash or a string"),
    }
}

fn of_pipeline(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map) -> Option<OtherNeed> {
    if present(map, "job").is_none() && map.len() == 1 {
        let message = format!("{at}: `needs:pipeline` without `job` takes over the state of another pipeline, which is not done locally");
        reader.report(Diagnostic::error("unsupported-keyword", message).at(node.span).help("add `job` to get its artifacts"));
        return None;
    }
    reader.unknown_keys(at, map, PIPELINE_KEYS);
    required(reader, at, node, map, &["job"]);
    let artifacts = artifacts(reader, at, map);
    let pipeline = reader.text(&format!("{at}:pipeline"), &present(map, "pipeline")?.value)?;
    Some(OtherNeed::Pipeline { pipeline, job: reader.text(&format!("{at}:job"), &present(map, "job")?.value)?, artifacts })
}

fn of_project(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map) -> Option<OtherNeed> {
    reader.unknown_keys(at, map, PROJECT_KEYS);
    required(reader, at, node, map, &["ref", "job"]);
    let artifacts = artifacts(reader, at, map);
    let mut text = |key: &str| present(map, key).and_then(|entry| reader.text(&format!("{at}:{key}"), &entry.value));
    let (project, job) = (text("project")?, text("job")?);
    text("ref")?;
    if artifacts {
        let message = format!("{at}: the artifacts of job `{job}` of project `{project}` are not downloaded locally");
        let help = "the job runs without them; put files that it cannot do without where it expects them";
        reader.report(Diagnostic::warning("not-done-locally", message).at(node.span).help(help));
    }
    Some(OtherNeed::Project { project, job, artifacts })
}

fn artifacts(reader: &mut Reader<'_>, at: &str, map: &Map) -> bool {
    present(map, "artifacts").and_then(|entry| reader.boolean(&format!("{at}:artifacts"), &entry.value)).unwrap_or(true)
}

fn mapping(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map) -> Option<Vec<Need>> {
    reader.unknown_keys(at, map, KEYS);
    let Some(job) = present(map, "job") else {
        reader.report(Diagnostic::error("needs-job", format!("{at} job can't be blank")).at(node.span).help("add `job: NAME`"));
        return None;
    };
    let artifacts = artifacts(reader, at, map);
    let optional = present(map, "optional").and_then(|entry| reader.boolean(&format!("{at}:optional"), &entry.value)).unwrap_or(false);
    let name = reader.text(&format!("{at}:job"), &job.value)?;
    let need = Need { job: name, artifacts, optional, span: job.value.span };
    match present(map, "parallel") {
        Some(entry) => of_matrix(reader, &format!("{at}:parallel"), &entry.value, &need),
        None => Some(vec![need]),
    }
}

/// Names the jobs of a matrix that are needed; whether they exist is checked like any need.
fn of_matrix(reader: &mut Reader<'_>, at: &str, node: &Node, need: &Need) -> Option<Vec<Need>> {
    let Some(matrix) = node.as_map().and_then(|map| present(map, "matrix")) else {
        let problem = Diagnostic::error("parallel", format!("{at} config cannot use \"parallel: <number>\"."));
        reader.report(problem.at(node.span).help("name the jobs by `matrix`, or write the needed job's whole name: `\"job 1/2\"`"));
        return None;
    };
    let combinations = parallel::read_matrix(reader, &format!("{at}:matrix"), &matrix.value)?;
    Some(combinations.iter().map(|values| Need { job: parallel::matrix_name(&need.job, values), ..need.clone() }).collect())
}

/// Describes `needs`.
pub(super) fn shape() -> Shape {
    let own = Shape::map(KEYS, |key| match key {
        "job" => ("The job that is waited for.", Shape::Name(Name::Job)),
        "artifacts" => ("Whether its artifacts are downloaded.", Shape::Boolean),
        "optional" => ("Whether the job may be missing from the pipeline.", Shape::Boolean),
        "parallel" => ("Which of the jobs that `parallel:matrix` makes.", parallel::shape()),
        _ => UNDESCRIBED,
    });
    let (of_pipeline, of_project) = (Shape::map(PIPELINE_KEYS, other_shape), Shape::map(PROJECT_KEYS, other_shape));
    Shape::nested(Shape::Either(vec![Shape::Name(Name::Job), own, of_pipeline, of_project]))
}

fn other_shape(key: &str) -> (&'static str, Shape) {
    match key {
        "pipeline" => ("Another pipeline whose artifacts are used.", Shape::Text),
        "project" => ("Another project whose artifacts are used.", Shape::Text),
        "ref" => ("The branch or tag of that project.", Shape::Text),
        "job" => ("The job there whose artifacts are used.", Shape::Text),
        "artifacts" => ("Whether its artifacts are downloaded.", Shape::Boolean),
        _ => UNDESCRIBED,
    }
}
