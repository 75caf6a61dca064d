//! `inherit`: which defaults and root variables reach a job.

use super::{
    Reader, default, present,
    shape::{Name, Shape, UNDESCRIBED},
};
use crate::yaml::{Node, Value};

const KEYS: &[&str] = &["default", "variables"];

/// What a job takes over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Inherit {
    #[default]
    All,
    Nothing,
    Only(Vec<String>),
}

impl Inherit {
    pub(super) fn includes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Only(names) => names.iter().any(|known| known == name),
        }
    }
}

/// Both halves of `inherit`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Inheritance {
    pub(super) default: Inherit,
    pub(super) variables: Inherit,
}

/// Reads `inherit`.
pub(super) fn read(reader: &mut Reader<'_>, at: &str, node: &Node) -> Inheritance {
    let Some(map) = reader.map(at, node) else { return Inheritance::default() };
    reader.unknown_keys(at, map, KEYS);
    let default = present(map, "default").map(|entry| one(reader, &format!("{at}:default"), &entry.value, Some(default::KEYS)));
    let variables = present(map, "variables").map(|entry| one(reader, &format!("{at}:variables"), &entry.value, None));
    Inheritance { default: default.unwrap_or_default(), variables: variables.unwrap_or_default() }
}

fn one(reader: &mut Reader<'_>, at: &str, node: &Node, known: Option<&[&str]>) -> Inherit {
    match &node.value {
        Value::Bool(true) => Inherit::All,
        Value::Bool(false) => Inherit::Nothing,
        Value::List(items) => {
            if let Some(known) = known {
                let words: Vec<(&str, ())> = known.iter().map(|word| (*word, ())).collect();
                for item in items {
                    reader.one_of(&format!("{at} config"), item, &words);
                }
            }
            Inherit::Only(reader.texts(at, node).unwrap_or_default())
        }
        _ => {
            reader.wrong_type(at, node, "a boolean or an array of strings");
            Inherit::All
        }
    }
}

/// Describes `inherit`.
pub(super) fn shape() -> Shape {
    let some = |names: Shape| Shape::Either(vec![Shape::Boolean, Shape::list(names)]);
    Shape::map(KEYS, |key| match key {
        "default" => ("Which keywords of `default` the job takes over.", some(Shape::Words(default::KEYS.to_vec()))),
        "variables" => ("Which variables of the root the job takes over.", some(Shape::Name(Name::Variable))),
        _ => UNDESCRIBED,
    })
}
