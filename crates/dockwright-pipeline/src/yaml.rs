//! YAML as GitLab reads it: libyaml's grammar, Ruby's YAML 1.1 scalars, merge keys in order, and the `!reference` tag.
//!
//! The parser of events is `granit-parser`; composing nodes and typing scalars is ours, because no general library gives Ruby's answers.
//! Nodes are shared, so an alias costs nothing however often it is used; what it would expand to is counted and limited.

mod composer;
mod document;
mod emit;
mod node;
mod scalar;

pub(crate) use document::{Document, read};
pub(crate) use emit::{node_to_json, to_json, to_yaml};
pub(crate) use node::{Entry, Map, Node, Value};
pub(crate) use scalar::{Scalar, plain};
