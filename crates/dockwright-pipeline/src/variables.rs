//! References to variables in texts, and expanding them the ways GitLab does.
//!
//! | Function | Unknown reference | `$$` |
//! |---|---|---|
//! | [`expand_blank`] | empty | not known |
//! | [`expand_existing`] | text kept | not known |
//! | [`sort_and_expand`] | text kept | kept |

use std::collections::HashMap;

use indexmap::IndexMap;

/// A part of a text.
enum Piece<'a> {
    Literal(&'a str),
    /// `$$` or `%%`.
    Escape(&'a str),
    Reference {
        name: &'a str,
        text: &'a str,
    },
}

/// Splits a text at `$NAME`, `${NAME}` and `%NAME%`.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut literal = 0;
    while literal < rest.len() {
        let tail = &rest[literal..];
        let piece = if tail.starts_with("$$") || tail.starts_with("%%") { Some(Piece::Escape(&tail[..2])) } else { reference(tail) };
        let Some(piece) = piece else {
            literal += tail.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if literal > 0 {
            pieces.push(Piece::Literal(&rest[..literal]));
        }
        let length = match &piece {
            Piece::Literal(text) | Piece::Escape(text) | Piece::Reference { text, .. } => text.len(),
        };
        rest = &tail[length..];
        literal = 0;
        pieces.push(piece);
    }
    if literal > 0 {
        pieces.push(Piece::Literal(rest));
    }
    pieces
}

fn reference(text: &str) -> Option<Piece<'_>> {
    if let Some(rest) = text.strip_prefix("${") {
        let name = name_at(rest);
        return rest[name.len()..].starts_with('}').then(|| Piece::Reference { name, text: &text[..name.len() + 3] });
    }
    let rest = text.strip_prefix('$').or_else(|| text.strip_prefix('%'))?;
    let name = name_at(rest);
    if name.is_empty() {
        return None;
    }
    if text.starts_with('$') {
        return Some(Piece::Reference { name, text: &text[..name.len() + 1] });
    }
    rest[name.len()..].starts_with('%').then(|| Piece::Reference { name, text: &text[..name.len() + 2] })
}

fn name_at(text: &str) -> &str {
    let end = text.find(|next: char| !next.is_ascii_alphanumeric() && next != '_').unwrap_or(text.len());
    if text.starts_with(|first: char| first.is_ascii_digit()) { "" } else { &text[..end] }
}

fn expand(text: &str, value: impl Fn(&str) -> Option<String>, unknown: impl Fn(&str) -> String) -> String {
    // Without escapes, the second `$` of `$$A` begins a reference.
    let mut output = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '%']) {
        output.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(Piece::Reference { name, text }) = reference(rest) {
            output.push_str(&value(name).unwrap_or_else(|| unknown(text)));
            rest = &rest[text.len()..];
        } else {
            output.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    output.push_str(rest);
    output
}

/// Expands references once; unknown ones become empty.
pub fn expand_blank(text: &str, variables: &IndexMap<String, String>) -> String {
    expand(text, |name| variables.get(name).cloned(), |_| String::new())
}

/// Expands references once; unknown ones stay.
pub fn expand_existing(text: &str, variables: &IndexMap<String, String>) -> String {
    expand(text, |name| variables.get(name).cloned(), str::to_owned)
}

/// A variable of a collection whose values refer to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandableVariable {
    pub key: String,
    pub value: String,
    /// Neither expanded nor inserted into others.
    pub raw: bool,
    /// Holds the path of a file, which only the runner knows: not inserted into others.
    pub file: bool,
}

/// Variables that refer to each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircularReference {
    pub names: Vec<String>,
}

/// Expands the values among themselves, at any depth and in any order of definition. The last definition of a name counts.
///
/// References to unknown, raw and file variables are kept for the runner, and so is a variable's reference to itself.
pub fn sort_and_expand(variables: Vec<ExpandableVariable>) -> Result<Vec<ExpandableVariable>, CircularReference> {
    let last: HashMap<&str, usize> = variables.iter().enumerate().map(|(index, variable)| (variable.key.as_str(), index)).collect();
    let mut expander = Expander { variables: &variables, last, done: HashMap::new(), stack: Vec::new(), inserted_bytes: 0 };
    let values: Vec<String> = (0..variables.len()).map(|index| expander.value(index)).collect::<Result<_, _>>()?;
    Ok(variables.into_iter().zip(values).map(|(variable, value)| ExpandableVariable { value, ..variable }).collect())
}

struct Expander<'a> {
    variables: &'a [ExpandableVariable],
    last: HashMap<&'a str, usize>,
    done: HashMap<usize, String>,
    stack: Vec<usize>,
    inserted_bytes: usize,
}

/// Most text that expanding may insert into a collection; further references are kept. Guards against values that double each other.
const INSERTED_SIZE_BYTES: usize = 4 * 1024 * 1024;
/// Longest chain of references that is followed.
const MAX_CHAIN: usize = 200;

impl Expander<'_> {
    fn value(&mut self, index: usize) -> Result<String, CircularReference> {
        let variable = &self.variables[index];
        if variable.raw || variable.file {
            return Ok(variable.value.clone());
        }
        if let Some(done) = self.done.get(&index) {
            return Ok(done.clone());
        }
        self.stack.push(index);
        let mut output = String::new();
        for piece in pieces(&variable.value) {
            match piece {
                Piece::Literal(text) | Piece::Escape(text) => output.push_str(text),
                Piece::Reference { name, text } => match self.referenced(index, name)? {
                    Some(value) if self.inserted_bytes + value.len() <= INSERTED_SIZE_BYTES => {
                        self.inserted_bytes += value.len();
                        output.push_str(&value);
                    }
                    _ => output.push_str(text),
                },
            }
        }
        self.stack.pop();
        self.done.insert(index, output.clone());
        Ok(output)
    }

    fn referenced(&mut self, from: usize, name: &str) -> Result<Option<String>, CircularReference> {
        let Some(&index) = self.last.get(name) else { return Ok(None) };
        let variable = &self.variables[index];
        // An overridden definition that refers to its own name is not expanded either: it has no effect.
        if index == from || variable.key == self.variables[from].key || variable.raw || variable.file {
            return Ok(None);
        }
        if let Some(start) = self.stack.iter().position(|outer| *outer == index) {
            let names = self.stack[start..].iter().map(|index| self.variables[*index].key.clone()).collect();
            return Err(CircularReference { names });
        }
        if self.stack.len() >= MAX_CHAIN {
            return Ok(None);
        }
        self.value(index).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn sorted(pairs: &[(&str, &str)]) -> Result<Vec<String>, CircularReference> {
        let variable = |(key, value): &(&str, &str)| ExpandableVariable {
            key: key.trim_start_matches(['!', '@']).to_owned(),
            value: (*value).to_owned(),
            raw: key.starts_with('!'),
            file: key.starts_with('@'),
        };
        Ok(sort_and_expand(pairs.iter().map(variable).collect())?.into_iter().map(|variable| variable.value).collect())
    }

    #[test]
    fn the_two_simple_expanders_differ_in_unknown_references() {
        let variables = map(&[("A", "1"), ("B", "$A")]);
        let text = "$A ${B} %A% $X ${X} %X% $$A 50% $ ${ $1";
        assert_eq!(expand_blank(text, &variables), "1 $A 1    $1 50% $ ${ $1");
        assert_eq!(expand_existing(text, &variables), "1 $A 1 $X ${X} %X% $1 50% $ ${ $1");
    }

    #[test]
    fn collections_expand_at_any_depth() {
        assert_eq!(sorted(&[("A", "$B-a"), ("B", "${C}-b"), ("C", "c")]).expect("no circle"), ["c-b-a", "c-b", "c"]);
        assert_eq!(sorted(&[("PATH", "$PATH:/x"), ("E", "$$PATH $UNKNOWN")]).expect("no circle"), ["$PATH:/x", "$$PATH $UNKNOWN"]);
        assert_eq!(sorted(&[("A", "$R $F"), ("!R", "$A"), ("@F", "text")]).expect("no circle"), ["$R $F", "$A", "text"]);
        assert_eq!(sorted(&[("A", "old"), ("B", "$A"), ("A", "new")]).expect("no circle"), ["old", "new", "new"]);
    }

    #[test]
    fn circles_are_found() {
        let circle = sorted(&[("X", "$A"), ("A", "$B"), ("B", "$A")]).expect_err("a circle");
        assert_eq!(circle.names, ["A", "B"]);
    }

    #[test]
    fn values_that_double_each_other_stay_small() {
        let mut pairs = vec![("V0".to_owned(), "x".repeat(100))];
        for index in 1..60 {
            pairs.push((format!("V{index}"), format!("$V{0}$V{0}", index - 1)));
        }
        let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let total: usize = sorted(&borrowed).expect("no circle").iter().map(String::len).sum();
        assert!(total < 2 * INSERTED_SIZE_BYTES, "{total}");
    }
}
