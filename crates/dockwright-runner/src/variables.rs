//! The variables of a job, in order of precedence, and their expansion.

use dockwright_job::Variable;

/// An ordered list in which the last definition of a key wins.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobVariables {
    list: Vec<Variable>,
}

/// A variable that services see too.
pub(crate) fn public(key: &str, value: impl Into<String>) -> Variable {
    Variable { key: key.to_owned(), value: value.into(), public: true, raw: true, ..Variable::default() }
}

impl JobVariables {
    pub(crate) fn new(list: Vec<Variable>) -> Self {
        Self { list }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.list.iter()
    }

    /// Returns the value of a variable that is set, even to nothing.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.list.iter().rev().find(|variable| variable.key == key).map(|variable| variable.value.as_str())
    }

    /// Returns the value of a variable, or nothing.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// Reads a switch as GitLab's runner does: anything but a word of yes is no.
    pub(crate) fn is_true(&self, key: &str) -> Option<bool> {
        self.get(key).filter(|value| !value.is_empty()).map(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// Sets a variable over all earlier definitions.
    pub(crate) fn set(&mut self, variable: Variable) {
        self.list.push(variable);
    }

    /// Replaces references in all values that are not raw, once: a value that came in by reference is not looked at again.
    /// `file_path` gives the place of file variables.
    pub(crate) fn expanded(&self, file_path: impl Fn(&str) -> String) -> Self {
        let lookup = |key: &str| self.lookup(key, &file_path);
        let expand = |variable: &Variable| {
            if variable.raw {
                return variable.clone();
            }
            Variable { value: expand(&variable.value, lookup), ..variable.clone() }
        };
        Self { list: self.list.iter().map(expand).collect() }
    }

    fn lookup(&self, key: &str, file_path: &impl Fn(&str) -> String) -> String {
        match self.list.iter().rev().find(|variable| variable.key == key) {
            Some(variable) if variable.file => file_path(key),
            Some(variable) => variable.value.clone(),
            None => String::new(),
        }
    }

    /// Replaces references in a text by this job's values.
    pub(crate) fn expand(&self, text: &str) -> String {
        expand(text, |key| self.text(key).to_owned())
    }

    pub(crate) fn masked_values(&self) -> impl Iterator<Item = &str> {
        self.list.iter().filter(|variable| variable.masked).map(|variable| variable.value.as_str())
    }

    /// Returns `KEY=value` once for each key. `file_path` gives the place of file variables.
    pub(crate) fn environment(&self, file_path: impl Fn(&str) -> String, only_public: bool) -> Vec<String> {
        let last_index = |key: &str| self.list.iter().rposition(|variable| variable.key == key);
        let entry = |variable: &Variable| match variable.file {
            true => format!("{}={}", variable.key, file_path(&variable.key)),
            false => format!("{}={}", variable.key, variable.value),
        };
        self.list
            .iter()
            .enumerate()
            .filter(|(index, variable)| last_index(&variable.key) == Some(*index) && (variable.public || !only_public))
            .map(|(_, variable)| entry(variable))
            .collect()
    }
}

/// Replaces `$NAME` and `${NAME}`; `$$` is a dollar, and the shell's special parameters become nothing.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (replacement, length) = read_reference(rest, &lookup);
        out.push_str(&replacement);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// Reads what follows a dollar. Returns the replacement and how many bytes it stands for.
fn read_reference(rest: &str, lookup: &impl Fn(&str) -> String) -> (String, usize) {
    if rest.starts_with('$') {
        return ("$".to_owned(), 1);
    }
    if let Some(inner) = rest.strip_prefix('{') {
        return match inner.find('}') {
            Some(end) => (lookup(&inner[..end]), end + 2),
            None => ("${".to_owned(), 1),
        };
    }
    if rest.starts_with(|c: char| c.is_ascii_digit() || "*#@!?-".contains(c)) {
        return (String::new(), 1);
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    if end == 0 { ("$".to_owned(), 0) } else { (lookup(&rest[..end]), end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(key: &str, value: &str) -> Variable {
        Variable { key: key.to_owned(), value: value.to_owned(), ..Variable::default() }
    }

    #[test]
    fn references_are_replaced_once() {
        let variables = JobVariables::new(vec![variable("A", "a"), variable("B", "$A-${A}"), variable("C", "$B")]);
        let expanded = variables.expanded(|key| format!("/tmp/{key}"));
        assert_eq!(expanded.text("B"), "a-a");
        assert_eq!(expanded.text("C"), "$A-${A}");
    }

    #[test]
    fn special_forms() {
        let variables = JobVariables::new(vec![variable("A", "a"), Variable { file: true, ..variable("KEY", "secret") }]);
        for (text, expected) in
            [("$$A", "$A"), ("$1x$?", "x"), ("$NONE|", "|"), ("${A", "${A"), ("5$", "5$"), ("$ x", "$ x"), ("é$A", "éa")]
        {
            assert_eq!(variables.expand(text), expected, "{text}");
        }
        let with_file = JobVariables::new(vec![Variable { file: true, ..variable("KEY", "secret") }, variable("PATH_OF", "$KEY")]);
        assert_eq!(with_file.expanded(|key| format!("/t/{key}")).text("PATH_OF"), "/t/KEY");
    }

    #[test]
    fn the_environment_has_each_key_once_and_services_see_public_ones() {
        let mut variables = JobVariables::new(vec![variable("A", "1"), variable("A", "2")]);
        variables.set(public("P", "3"));
        assert_eq!(variables.environment(|_| String::new(), false), ["A=2", "P=3"]);
        assert_eq!(variables.environment(|_| String::new(), true), ["P=3"]);
    }
}
