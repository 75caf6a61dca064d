//! The path of a block: `inputs.name`, `inputs.list[0].key`, `component.version`.

use std::sync::Arc;

use crate::{
    diagnostic::Diagnostic,
    suggestion::did_you_mean,
    yaml::{Map, Node, Value},
};

const MAX_PARTS: usize = 5;
const MAX_INDICES: usize = 5;
const PATH_SIZE_BYTES: usize = 1024;

/// Returns what a path names.
pub(super) fn find(path: &str, roots: &Node) -> Result<Arc<Node>, Diagnostic> {
    if path.len() > PATH_SIZE_BYTES {
        return Err(Diagnostic::error("interpolation", "maximum interpolation expression size exceeded"));
    }
    let parts: Vec<&str> = path.splitn(MAX_PARTS, '.').collect();
    if parts.len() <= 1 {
        let message = "invalid pattern used for interpolation. valid pattern is $[[ inputs.input ]]";
        return Err(Diagnostic::error("interpolation", message));
    }
    let mut node = Arc::new(roots.clone());
    for part in parts {
        let (key, indices) = split_indices(part, path)?;
        node = value_of(&node, key, path)?;
        for index in indices {
            node = element(&node, index, path)?;
        }
    }
    Ok(node)
}

fn value_of(node: &Node, key: &str, path: &str) -> Result<Arc<Node>, Diagnostic> {
    let found = node.as_map().and_then(|map| map.get(key));
    found.map(|entry| entry.value.clone()).ok_or_else(|| {
        Diagnostic::error("interpolation-unknown", format!("unknown interpolation provided: `{key}` in `{path}`"))
            .help_if(node.as_map().and_then(|map| help(key, map)))
    })
}

fn help(key: &str, map: &Map) -> Option<String> {
    let known = || map.keys().map(String::as_str);
    let list = || {
        let known: Vec<&str> = known().collect();
        (!known.is_empty()).then(|| format!("known here: `{}`", known.join("`, `")))
    };
    did_you_mean(key, known()).or_else(list)
}

fn element(node: &Node, index: usize, path: &str) -> Result<Arc<Node>, Diagnostic> {
    let Value::List(items) = &node.value else {
        let message = format!("cannot index into non-array value at [{index}] in `{path}`");
        return Err(Diagnostic::error("interpolation", message).help(format!("it is {}", node.kind())));
    };
    items.get(index).cloned().ok_or_else(|| {
        let message = format!("array index {index} out of bounds (size: {}) in `{path}`", items.len());
        Diagnostic::error("interpolation", message)
    })
}

/// Splits `name[0][1]`. A name with an index has only letters, digits and underscores, in GitLab as here.
fn split_indices<'p>(part: &'p str, path: &str) -> Result<(&'p str, Vec<usize>), Diagnostic> {
    let Some(open) = part.find('[') else { return Ok((part, Vec::new())) };
    let fail = |message: String| Err(Diagnostic::error("interpolation", message));
    if part.matches('[').count() != part.matches(']').count() {
        return fail(format!("invalid array index in `{path}`: missing closing bracket"));
    }
    let (key, rest) = part.split_at(open);
    let mut indices = Vec::new();
    let mut rest = rest;
    while let Some((content, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        match content.parse::<usize>() {
            Ok(index) if content.bytes().all(|digit| digit.is_ascii_digit()) => indices.push(index),
            _ => return fail(format!("invalid array index in `{path}`: `{content}` is not a valid index")),
        }
        rest = after;
    }
    if !rest.is_empty() || !key.chars().all(|next| next.is_ascii_alphanumeric() || next == '_') {
        return fail(format!("invalid array index syntax in `{path}`"));
    }
    if key.is_empty() {
        return fail(format!("invalid indexed access without a key in `{path}`"));
    }
    if indices.len() > MAX_INDICES {
        return fail(format!("too many array indices in `{path}` (maximum depth: {MAX_INDICES})"));
    }
    Ok((key, indices))
}
