//! What may be written where: the language as data, for completion, hover and the JSON schema.
//!
//! Every keyword describes itself beside its reader, by the same lists of keys and words that the reader checks with, so that what an
//! editor offers and what is accepted cannot differ. Limits and exclusions between keys are left to the readers.

use std::sync::LazyLock;

/// What a value looks like.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Not described any further.
    Any,
    Text,
    /// A text, a number or a boolean.
    Scalar,
    Boolean,
    /// A whole number between these two, both included.
    Integer(i64, i64),
    /// One of some words.
    Words(Vec<&'static str>),
    /// The name of something.
    Name(Name),
    List(Box<Shape>),
    /// A list whose items may be lists of the same.
    Nested(Box<Shape>),
    Map(Keys),
    Either(Vec<Shape>),
}

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// A job that is not hidden.
    Job,
    /// A job or a hidden entry.
    Entry,
    Stage,
    /// A file of the repository.
    File,
    /// A variable of the root.
    Variable,
}

/// The keys of a mapping.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Keys {
    pub known: Vec<Key>,
    /// Values of keys whose names people choose; absent: there are none.
    pub other: Option<Box<Shape>>,
}

/// A key that is part of the language.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub name: &'static str,
    /// What it does, in one or two sentences.
    pub meaning: &'static str,
    pub shape: Shape,
}

/// A step from a value to one inside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Item,
}

/// Returns the whole configuration's shape.
pub fn language() -> &'static Shape {
    static LANGUAGE: LazyLock<Shape> = LazyLock::new(super::root::shape);
    &LANGUAGE
}

impl Shape {
    /// Describes a mapping with these keys, each by its meaning and shape.
    pub(crate) fn map(keys: &[&'static str], describe: impl Fn(&str) -> (&'static str, Self)) -> Self {
        let known = keys.iter().map(|name| {
            let (meaning, shape) = describe(name);
            Key { name, meaning, shape }
        });
        Self::Map(Keys { known: known.collect(), other: None })
    }

    /// Describes a mapping whose keys are names.
    pub(crate) fn named(shape: Self) -> Self {
        Self::Map(Keys { known: Vec::new(), other: Some(Box::new(shape)) })
    }

    pub(crate) fn list(item: Self) -> Self {
        Self::List(Box::new(item))
    }

    pub(crate) fn nested(item: Self) -> Self {
        Self::Either(vec![item.clone(), Self::Nested(Box::new(item))])
    }

    /// Describes a value, or a list of such.
    pub(crate) fn one_or_list(item: Self) -> Self {
        Self::Either(vec![item.clone(), Self::list(item)])
    }

    pub(crate) fn words<T>(words: &[(&'static str, T)]) -> Self {
        Self::Words(words.iter().map(|(word, _)| *word).collect())
    }

    /// Returns the alternatives that a value may be, each of one kind.
    pub fn alternatives(&self) -> Vec<&Self> {
        match self {
            Self::Either(shapes) => shapes.iter().flat_map(Self::alternatives).collect(),
            shape => vec![shape],
        }
    }

    /// Returns what may stand at a path; nothing where the language has nothing there.
    pub fn at(&self, path: &[Step]) -> Vec<&Self> {
        let mut shapes = self.alternatives();
        for step in path {
            shapes = shapes.into_iter().flat_map(|shape| shape.step(step)).collect();
        }
        shapes
    }

    fn step(&self, step: &Step) -> Vec<&Self> {
        match (self, step) {
            (Self::Map(keys), Step::Key(name)) => {
                let shape = keys.get(name).map(|key| &key.shape).or(keys.other.as_deref());
                shape.map(Self::alternatives).unwrap_or_default()
            }
            (Self::List(item), Step::Item) => item.alternatives(),
            // Lists inside of it are as it is.
            (Self::Nested(item), Step::Item) => {
                let mut shapes = item.alternatives();
                shapes.push(self);
                shapes
            }
            _ => Vec::new(),
        }
    }
}

impl Keys {
    /// Returns a key of the language.
    pub fn get(&self, name: &str) -> Option<&Key> {
        self.known.iter().find(|key| key.name == name)
    }
}

/// What a reader's list names but its shape does not; a test finds it.
pub(crate) const UNDESCRIBED: (&str, Shape) = ("", Shape::Any);

#[cfg(test)]
mod tests {
    use super::*;

    fn undescribed(shape: &Shape, path: &str, found: &mut Vec<String>) {
        match shape {
            Shape::Map(keys) => {
                for key in &keys.known {
                    let path = format!("{path}:{}", key.name);
                    if key.meaning.is_empty() {
                        found.push(path.clone());
                    }
                    undescribed(&key.shape, &path, found);
                }
                keys.other.iter().for_each(|other| undescribed(other, &format!("{path}:*"), found));
            }
            Shape::List(item) | Shape::Nested(item) => undescribed(item, path, found),
            Shape::Either(shapes) => shapes.iter().for_each(|shape| undescribed(shape, path, found)),
            _ => {}
        }
    }

    #[test]
    fn every_key_that_a_reader_knows_is_described() {
        let mut found = Vec::new();
        undescribed(language(), "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_path_leads_to_what_may_stand_there() {
        let key = |name: &str| Step::Key(name.to_owned());
        let at = |path: &[Step]| language().at(path);
        assert!(at(&[key("job"), key("when")]).iter().any(|shape| matches!(shape, Shape::Words(words) if words.contains(&"manual"))));
        assert_eq!(at(&[key("job"), key("needs"), Step::Item])[0], &Shape::Name(Name::Job));
        assert!(at(&[key("job"), key("rules"), Step::Item, key("if")]).contains(&&Shape::Text));
        assert!(at(&[key("job"), key("script"), key("nothing")]).is_empty());
    }
}
