//! `needs`: the jobs that a job waits for, instead of all earlier stages.

use super::{
    Reader, parallel, present,
    shape::{Name, Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::Need,
    yaml::{Map, Node, Value},
};

const KEYS: &[&str] = &["job", "artifacts", "optional", "parallel", "pipeline", "project", "ref"];

/// Reads `needs` of a job or of a rule.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Need>> {
    let items: Vec<&Node> = match &node.value {
        Value::List(items) => items.iter().map(|item| &**item).collect(),
        Value::Text(_) | Value::Map(_) => vec![node],
        _ => {
            reader.wrong_type(at, node, "an array, a hash or a string");
            return None;
        }
    };
    Some(items.into_iter().flat_map(|item| one(reader, at, item)).collect())
}

fn one(reader: &mut Reader<'_>, at: &str, node: &Node) -> Vec<Need> {
    match &node.value {
        Value::Text(job) => vec![Need { job: job.clone(), artifacts: true, optional: false, span: node.span }],
        Value::Map(map) => mapping(reader, at, node, map).unwrap_or_default(),
        _ => {
            reader.wrong_type(&format!("{at}:need"), node, "a hash or a string");
            Vec::new()
        }
    }
}

fn mapping(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map) -> Option<Vec<Need>> {
    reader.unknown_keys(&format!("{at}:need"), map, KEYS);
    for key in ["pipeline", "project"] {
        if let Some(entry) = map.get(key) {
            let message = format!("`needs:{key}` is not supported yet");
            reader.report(
                Diagnostic::error("unsupported-keyword", message).at(entry.key).help("only jobs of the same pipeline can be needed"),
            );
            return None;
        }
    }
    let Some(job) = present(map, "job") else {
        reader.report(Diagnostic::error("needs-job", format!("{at}:need job can't be blank")).at(node.span).help("add `job: NAME`"));
        return None;
    };
    let mut boolean = |key: &str, default: bool| {
        present(map, key).and_then(|entry| reader.boolean(&format!("{at}:need:{key}"), &entry.value)).unwrap_or(default)
    };
    let (artifacts, optional) = (boolean("artifacts", true), boolean("optional", false));
    let name = reader.text(&format!("{at}:need:job"), &job.value)?;
    let need = Need { job: name, artifacts, optional, span: job.value.span };
    match present(map, "parallel") {
        Some(entry) => of_matrix(reader, &format!("{at}:need:parallel"), &entry.value, &need),
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
    let keys = Shape::map(KEYS, |key| match key {
        "job" => ("The job that is waited for.", Shape::Name(Name::Job)),
        "artifacts" => ("Whether its artifacts are downloaded.", Shape::Boolean),
        "optional" => ("Whether the job may be missing from the pipeline.", Shape::Boolean),
        "parallel" => ("Which of the jobs that `parallel:matrix` makes.", parallel::shape()),
        "pipeline" => ("Another pipeline whose artifacts are used.", Shape::Text),
        "project" => ("Another project whose artifacts are used.", Shape::Text),
        "ref" => ("The branch or tag of that project.", Shape::Text),
        _ => UNDESCRIBED,
    });
    Shape::one_or_list(Shape::Either(vec![Shape::Name(Name::Job), keys]))
}
