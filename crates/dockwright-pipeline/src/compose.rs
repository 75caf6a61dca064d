//! From files to one tree: `include`, then `extends`, then `!reference`, in this order, because the order can be observed.
//!
//! References see extended jobs; `extends` reaches jobs of every included file; an included file is merged before the file that includes it.

mod extends;
mod include;
mod inputs;
mod interpolation;
mod reference;

use std::sync::Arc;

use crate::{
    diagnostic::{Diagnostic, has_errors},
    keyword::shape::Shape,
    loader::Loader,
    pipeline::PipelineContext,
    source::Sources,
    yaml::{Entry, Map, Node, Value},
};

/// A configuration as one tree.
pub(crate) struct Composed {
    pub(crate) root: Map,
    /// Something that was to be included is not here, so other parts may miss it.
    pub(crate) is_incomplete: bool,
}

/// Reads the file at `path` and everything it includes. Returns nothing when the file cannot be understood at all.
pub(crate) fn compose(
    path: &str,
    loader: &dyn Loader,
    context: &PipelineContext,
    sources: &mut Sources,
    problems: &mut Vec<Diagnostic>,
) -> Option<Composed> {
    let merged = include::read(path, loader, context, sources, problems)?;
    let is_incomplete = has_errors(problems);
    let extended = extends::resolve(&merged, problems);
    Some(Composed { root: reference::resolve(extended, problems), is_incomplete })
}

/// Describes `include`.
pub(crate) fn include_shape() -> Shape {
    include::shape()
}

/// Describes `spec`.
pub(crate) fn spec_shape() -> Shape {
    inputs::shape(&include::shape())
}

/// Merges two values: mappings key by key, anything else is replaced by the later value.
fn merge(base: &Arc<Node>, over: &Arc<Node>) -> Arc<Node> {
    match (&base.value, &over.value) {
        (Value::Map(base_map), Value::Map(over_map)) => Arc::new(Node::new(Value::Map(merge_maps(base_map, over_map)), over.span)),
        _ => over.clone(),
    }
}

fn merge_maps(base: &Map, over: &Map) -> Map {
    let mut merged = base.clone();
    merge_into(&mut merged, over);
    merged
}

/// Merges without copying what is there already: many files are merged into one.
fn merge_into(base: &mut Map, over: &Map) {
    for (key, entry) in over {
        match base.get_mut(key) {
            Some(earlier) => {
                let value = merge(&earlier.value, &entry.value);
                *earlier = Entry { value, ..entry.clone() };
            }
            None => {
                base.insert(key.clone(), entry.clone());
            }
        }
    }
}
