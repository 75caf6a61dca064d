//! Reading JSON the way Docker's daemon does.
//!
//! Go's decoder ignores the case of keys, takes `null` for "not given", and the daemon takes a string where it expects a list of
//! strings. Clients have come to rely on all three.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{EngineError, Result};

/// A JSON object of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    /// Wraps an object; `null` is an object without fields.
    pub(crate) fn of(value: &'a Value, what: &str) -> Result<Self> {
        match value {
            Value::Null => Ok(Self { object: None }),
            Value::Object(object) => Ok(Self { object: Some(object) }),
            other => Err(EngineError::invalid(format!("invalid JSON: {what} must be an object, not {}", kind(other)))),
        }
    }

    /// Returns a field unless it is absent or null.
    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        let object = self.object?;
        let found = object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
        found.filter(|value| !value.is_null())
    }

    pub(crate) fn object(self, name: &str) -> Result<Self> {
        self.get(name).map_or(Ok(Self { object: None }), |value| Self::of(value, name))
    }

    pub(crate) fn string(self, name: &str) -> Result<String> {
        Ok(self.optional_string(name)?.unwrap_or_default())
    }

    pub(crate) fn optional_string(self, name: &str) -> Result<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(name, "a string", other)),
        }
    }

    pub(crate) fn bool(self, name: &str) -> Result<bool> {
        Ok(self.optional_bool(name)?.unwrap_or_default())
    }

    pub(crate) fn optional_bool(self, name: &str) -> Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong(name, "a boolean", other)),
        }
    }

    pub(crate) fn number(self, name: &str) -> Result<i64> {
        Ok(self.optional_number(name)?.unwrap_or_default())
    }

    pub(crate) fn optional_number(self, name: &str) -> Result<Option<i64>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or_else(|| wrong(name, "a whole number", value)),
        }
    }

    /// Reads a list of strings; one string is a list of one.
    pub(crate) fn optional_strings(self, name: &str) -> Result<Option<Vec<String>>> {
        let item = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, "a list of strings", value));
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text.clone()])),
            Some(Value::Array(list)) => list.iter().map(item).collect::<Result<_>>().map(Some),
            Some(other) => Err(wrong(name, "a list of strings", other)),
        }
    }

    pub(crate) fn strings(self, name: &str) -> Result<Vec<String>> {
        Ok(self.optional_strings(name)?.unwrap_or_default())
    }

    /// Reads a list whose items are objects.
    pub(crate) fn objects(self, name: &str) -> Result<Vec<Fields<'a>>> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(|item| Self::of(item, name)).collect(),
            Some(other) => Err(wrong(name, "a list of objects", other)),
        }
    }

    /// Reads a map from strings to strings.
    pub(crate) fn string_map(self, name: &str) -> Result<BTreeMap<String, String>> {
        let text = |value: &Value| match value {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text.clone()),
            other => Err(wrong(name, "a map of strings", other)),
        };
        self.entries(name)?.into_iter().map(|(key, value)| Ok((key.to_owned(), text(value)?))).collect()
    }

    /// Returns the entries of a map.
    pub(crate) fn entries(self, name: &str) -> Result<Vec<(&'a str, &'a Value)>> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Object(map)) => Ok(map.iter().map(|(key, value)| (key.as_str(), value)).collect()),
            Some(other) => Err(wrong(name, "an object", other)),
        }
    }

    /// Returns the keys of a map whose values do not matter (`{"80/tcp": {}}`).
    pub(crate) fn keys(self, name: &str) -> Result<Vec<String>> {
        Ok(self.entries(name)?.into_iter().map(|(key, _)| key.to_owned()).collect())
    }
}

fn wrong(name: &str, expected: &str, found: &Value) -> EngineError {
    EngineError::invalid(format!("invalid JSON: {name} must be {expected}, not {}", kind(found)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_in_any_case_and_strings_for_lists() {
        let value = json!({ "cmd": "true", "Entrypoint": null, "tty": true });
        let fields = Fields::of(&value, "body").unwrap();
        assert_eq!(fields.strings("Cmd").unwrap(), ["true"]);
        assert_eq!(fields.optional_strings("Entrypoint").unwrap(), None);
        assert!(fields.bool("Tty").unwrap());
        assert_eq!(fields.string("Image").unwrap(), "");
    }

    #[test]
    fn a_wrong_type_is_named() {
        let value = json!({ "Tty": "yes" });
        let error = Fields::of(&value, "body").unwrap().bool("Tty").unwrap_err();
        assert_eq!(error.message, "invalid JSON: Tty must be a boolean, not a string");
    }
}
