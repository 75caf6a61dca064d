//! `parallel`: one entry of the configuration, several jobs of the pipeline.
//!
//! A number gives `test 1/3`, `test 2/3`, …; a matrix gives `test: [ruby, 2.7]`, with the first variable changing slowest. Jobs that name
//! the entry in `needs` or `dependencies` mean all jobs made of it; they may also name single ones, since this is done before names are
//! checked.

use indexmap::IndexMap;

use super::{
    Reader,
    job::{JobConfig, Jobs},
    present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    pipeline::{Need, Node as ParallelNode, Variable},
    source::Span,
    yaml::{Map, Node, Value},
};

const KEYS: &[&str] = &["matrix"];
/// Most jobs that one entry makes.
const MAX_JOBS: usize = 200;

/// `parallel`, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parallel {
    Number(u32),
    /// One combination of values for each job.
    Matrix(Vec<Combination>),
}

/// A variable of a matrix, and its value in one job.
type Combination = IndexMap<String, String>;

/// Reads `parallel`.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Parallel> {
    match &node.value {
        Value::Integer(number) => read_number(reader, at, node.span, *number),
        Value::Map(map) => {
            reader.unknown_keys(at, map, KEYS);
            let Some(matrix) = present(map, "matrix") else {
                reader.report(Diagnostic::error("parallel", format!("{at} config missing required keys: matrix")).at(node.span));
                return None;
            };
            read_matrix(reader, &format!("{at}:matrix"), &matrix.value).map(Parallel::Matrix)
        }
        _ => {
            reader.wrong_type(at, node, "an integer or a hash");
            None
        }
    }
}

fn read_number(reader: &mut Reader<'_>, at: &str, span: Span, number: i64) -> Option<Parallel> {
    let limit = if number < 1 { "greater than or equal to 1".to_owned() } else { format!("less than or equal to {MAX_JOBS}") };
    match u32::try_from(number).ok().filter(|number| (1..=MAX_JOBS).contains(&(*number as usize))) {
        Some(number) => Some(Parallel::Number(number)),
        None => {
            reader.report(Diagnostic::error("parallel", format!("{at} config must be {limit}")).at(span));
            None
        }
    }
}

/// Reads a matrix of `parallel`, or of an entry of `needs`.
pub(super) fn read_matrix(reader: &mut Reader<'_>, at: &str, node: &Node) -> Option<Vec<Combination>> {
    let Some(entries) = node.as_list() else {
        reader.wrong_type(at, node, "an array of hashes");
        return None;
    };
    let mut combinations = Vec::new();
    for entry in entries {
        let map = reader.map(at, entry)?;
        if map.is_empty() {
            reader.report(Diagnostic::error("parallel", format!("{at} config requires at least 1 item")).at(entry.span));
            return None;
        }
        let variables = matrix_variables(reader, at, map)?;
        // The size is known before anything is built.
        let size = variables.values().fold(1_usize, |size, values| size.saturating_mul(values.len()));
        if combinations.len().saturating_add(size) > MAX_JOBS {
            let message = format!("{at} config generates too many jobs (maximum is {MAX_JOBS})");
            reader.report(Diagnostic::error("parallel", message).at(entry.span));
            return None;
        }
        combinations.extend(product(&variables));
    }
    if combinations.is_empty() {
        reader.report(Diagnostic::error("parallel", format!("{at} config can't be blank")).at(node.span));
        return None;
    }
    Some(combinations)
}

fn matrix_variables(reader: &mut Reader<'_>, at: &str, map: &Map) -> Option<IndexMap<String, Vec<String>>> {
    let mut variables = IndexMap::new();
    for (name, entry) in map {
        let values: Option<Vec<String>> = match entry.value.as_list() {
            Some(items) => items.iter().map(|item| item.scalar_text()).collect(),
            None => entry.value.scalar_text().map(|value| vec![value]),
        };
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            reader.wrong_type(&format!("{at}:{name}"), &entry.value, "a text, a number, or an array of them");
            return None;
        };
        variables.insert(name.clone(), values);
    }
    Some(variables)
}

/// Combines every value with every other; the first variable changes slowest.
fn product(variables: &IndexMap<String, Vec<String>>) -> Vec<Combination> {
    let mut combinations = vec![Combination::new()];
    for (name, values) in variables {
        let extend = |combination: &Combination| {
            let combination = combination.clone();
            values.iter().map(move |value| {
                let mut longer = combination.clone();
                longer.insert(name.clone(), value.clone());
                longer
            })
        };
        combinations = combinations.iter().flat_map(extend).collect();
    }
    combinations
}

/// Returns the name of a job of a matrix.
pub(super) fn matrix_name(job: &str, combination: &Combination) -> String {
    let values: Vec<&str> = combination.values().map(String::as_str).collect();
    format!("{job}: [{}]", values.join(", "))
}

/// Makes the jobs of all entries with `parallel`, and lets the others name them.
pub(super) fn expand(jobs: Jobs, reader: &mut Reader<'_>) -> Jobs {
    if jobs.values().all(|job| job.parallel.is_none()) {
        return jobs;
    }
    let mut made: IndexMap<String, Vec<String>> = IndexMap::new();
    let mut expanded = Jobs::new();
    for (name, job) in jobs {
        if job.parallel.is_none() {
            expanded.insert(name, job);
            continue;
        }
        let instances = instances(&job);
        made.insert(name, instances.iter().map(|job| job.name.clone()).collect());
        // Equal combinations have one name: the later job takes the place of the earlier.
        expanded.extend(instances.into_iter().map(|job| (job.name.clone(), job)));
    }
    for job in expanded.values_mut() {
        name_instances(job, &made, reader);
    }
    expanded
}

fn instances(job: &JobConfig) -> Vec<JobConfig> {
    let instance = |name: String, index: usize, total: usize, matrix: &Combination| {
        let mut instance = JobConfig { name, parallel: None, ..job.clone() };
        let count = |number: usize| u32::try_from(number).expect("the limit is far below 2^32");
        instance.node = Some(ParallelNode { index: count(index + 1), total: count(total) });
        for (key, value) in matrix {
            let variable = Variable { key: key.clone(), value: value.clone(), raw: false };
            instance.variables.insert(key.clone(), variable.clone());
            instance.own_variables.insert(key.clone(), variable);
        }
        instance.matrix.clone_from(matrix);
        instance
    };
    match &job.parallel {
        None => vec![job.clone()],
        Some(Parallel::Number(total)) => (0..*total as usize)
            .map(|index| instance(format!("{} {}/{total}", job.name, index + 1), index, *total as usize, &Combination::new()))
            .collect(),
        Some(Parallel::Matrix(combinations)) => {
            let named = combinations.iter().enumerate();
            named.map(|(index, matrix)| instance(matrix_name(&job.name, matrix), index, combinations.len(), matrix)).collect()
        }
    }
}

/// Replaces names of entries by those of the jobs made of them, in everything that a job says about others.
fn name_instances(job: &mut JobConfig, made: &IndexMap<String, Vec<String>>, reader: &mut Reader<'_>) {
    let matrix = job.matrix.clone();
    let lists = job.needs.iter_mut().chain(job.rules.iter_mut().flatten().filter_map(|rule| rule.needs.as_mut()));
    for needs in lists {
        needs.retain_mut(|need| match with_matrix_values(&need.job, &matrix) {
            Ok(name) => {
                need.job = name;
                true
            }
            Err(unknown) => {
                let message = format!("'{unknown}' does not exist in matrix configuration");
                reader.report(Diagnostic::error("matrix-unknown", message).at(need.span));
                false
            }
        });
        let instances = |need: &Need| match made.get(&need.job) {
            Some(names) => names.iter().map(|name| Need { job: name.clone(), ..need.clone() }).collect(),
            None => vec![need.clone()],
        };
        *needs = needs.iter().flat_map(instances).collect();
    }
    if let Some(dependencies) = &mut job.dependencies {
        let instances = |(name, span): &(String, Span)| match made.get(name) {
            Some(names) => names.iter().map(|name| (name.clone(), *span)).collect(),
            None => vec![(name.clone(), *span)],
        };
        *dependencies = dependencies.iter().flat_map(instances).collect();
    }
}

/// Replaces `$[[ matrix.NAME ]]` by the job's own value, or returns a name that has none.
fn with_matrix_values(text: &str, matrix: &Combination) -> Result<String, String> {
    let mut output = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$[[") {
        let Some((inner, behind)) = after.split_once("]]") else { break };
        output.push_str(before);
        match inner.trim().strip_prefix("matrix.") {
            Some(name) => output.push_str(matrix.get(name).ok_or_else(|| name.to_owned())?),
            None => output.extend(["$[[", inner, "]]"]),
        }
        rest = behind;
    }
    Ok(output + rest)
}

/// Describes `parallel`.
pub(super) fn shape() -> Shape {
    let matrix = Shape::map(KEYS, |key| match key {
        "matrix" => {
            ("Makes a job for each combination of these variables' values.", Shape::list(Shape::named(Shape::one_or_list(Shape::Scalar))))
        }
        _ => UNDESCRIBED,
    });
    Shape::Either(vec![Shape::Integer(1, MAX_JOBS as i64), matrix])
}
