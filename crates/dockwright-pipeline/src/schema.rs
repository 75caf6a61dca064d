//! The language as a JSON schema, for editors that know nothing else of it.
//!
//! It accepts more than the checker: a schema does not see tags, so a list of texts may be a `!reference` wherever a value may stand,
//! and exclusions and limits are not part of it. What it refuses, the checker refuses too.

use serde_json::{Map, Value, json};

use crate::keyword::shape::{Keys, Shape, language};

/// What may stand in place of any value: nothing, a reference, and an input that is filled in later.
const STAND_IN: &str = "#/definitions/stand-in";

/// Returns the schema of `.gitlab-ci.yml` and the files that it includes, in draft 7, which editors understand best.
pub fn json_schema() -> Value {
    let Shape::Map(keys) = language() else { unreachable!("a configuration is a mapping") };
    let mut schema = mapping(keys);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
        fields.insert("title".to_owned(), "GitLab CI/CD configuration".into());
        // Hidden entries may hold anything; most hold a part of a job.
        let hidden = json!({"^\\.": {"description": "A hidden entry: other entries take it over by `extends` or `!reference`."}});
        fields.insert("patternProperties".to_owned(), hidden);
        fields.insert("definitions".to_owned(), json!({"stand-in": stand_in()}));
    }
    schema
}

fn stand_in() -> Value {
    json!({"anyOf": [
        {"type": "null"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "A `!reference`"},
        {"type": "string", "pattern": "\\$\\[\\["},
    ]})
}

fn schema(shape: &Shape) -> Value {
    match shape {
        Shape::Any => json!({}),
        Shape::Text | Shape::Name(_) => json!({"type": "string"}),
        Shape::Scalar => json!({"type": ["string", "number", "boolean"]}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Shape::Words(words) => json!({"enum": words}),
        Shape::List(item) => json!({"type": "array", "items": value(item)}),
        // How deep lists may be nested is left to the checker.
        Shape::Nested(item) => json!({"type": "array", "items": {"anyOf": [value(item), {"type": "array"}]}}),
        Shape::Map(keys) => mapping(keys),
        Shape::Either(shapes) => json!({"anyOf": shapes.iter().map(schema).collect::<Vec<_>>()}),
    }
}

/// Returns the schema of a value that a stand-in may replace.
fn value(shape: &Shape) -> Value {
    match shape {
        Shape::Any => json!({}),
        shape => {
            let mut alternatives: Vec<Value> = shape.alternatives().into_iter().map(schema).collect();
            alternatives.push(json!({"$ref": STAND_IN}));
            json!({"anyOf": alternatives})
        }
    }
}

fn mapping(keys: &Keys) -> Value {
    let properties: Map<String, Value> = keys
        .known
        .iter()
        .map(|key| {
            let mut schema = value(&key.shape);
            schema["description"] = key.meaning.into();
            (key.name.to_owned(), schema)
        })
        .collect();
    let other = keys.other.as_deref().map_or(Value::Bool(false), value);
    json!({"type": "object", "properties": properties, "additionalProperties": other})
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use boon::{Compiler, SchemaIndex, Schemas};

    use super::*;
    use crate::{
        source::Sources,
        yaml::{self, Node, Value as Yaml},
    };

    /// The compiled schema.
    struct Validator {
        schemas: Schemas,
        index: SchemaIndex,
    }

    impl Validator {
        fn new() -> Self {
            let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
            compiler.add_resource("ci.json", json_schema()).expect("the schema is a resource");
            let index = compiler.compile("ci.json", &mut schemas).expect("the schema is valid");
            Self { schemas, index }
        }

        /// Returns why a configuration is refused; nothing when it is accepted.
        fn refusal(&self, text: &str) -> Option<String> {
            let mut sources = Sources::default();
            let source = sources.add("ci.yml", text);
            let document = yaml::read(source, &sources, &mut Vec::new())?;
            let parts = document.header.iter().chain([&document.body]);
            parts.map(|part| json(part)).find_map(|part| self.schemas.validate(&part, self.index).err().map(|error| error.to_string()))
        }
    }

    /// Converts as an editor does that knows no tags.
    fn json(node: &Node) -> Value {
        match &node.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(value) => (*value).into(),
            Yaml::Integer(value) => (*value).into(),
            Yaml::Float(value) => (*value).into(),
            Yaml::Text(text) => text.as_str().into(),
            Yaml::List(items) => items.iter().map(|item| json(item)).collect(),
            Yaml::Map(map) => Value::Object(map.iter().map(|(key, entry)| (key.clone(), json(&entry.value))).collect()),
            Yaml::Reference(path) => path.clone().unwrap_or_default().into(),
        }
    }

    /// Returns the blocks of YAML of the specification.
    fn examples() -> Vec<String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/spec");
        let pages = fs::read_dir(directory).expect("the specification is there").map(|entry| entry.expect("an entry").path());
        let pages = pages.map(|page| fs::read_to_string(page).expect("a text"));
        pages.flat_map(|page| page.split("\n```yaml").skip(1).map(example).collect::<Vec<_>>()).collect()
    }

    fn example(block: &str) -> String {
        let lines = block.lines().skip(1).take_while(|line| *line != "```");
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn every_valid_example_of_the_specification_is_accepted() {
        let validator = Validator::new();
        // A file of nothing but inputs is for `spec:include`, and no configuration.
        let is_valid = |example: &String| !example.contains("# error: ") && !example.starts_with("inputs:");
        let examples: Vec<String> = examples().into_iter().filter(is_valid).collect();
        assert!(examples.len() > 50, "only {} examples were found", examples.len());
        let refused = examples.iter().filter_map(|example| Some(format!("{example}\n{}", validator.refusal(example)?)));
        let refused: Vec<String> = refused.collect();
        assert!(refused.is_empty(), "{} of {} are refused:\n{}", refused.len(), examples.len(), refused.join("\n\n"));
    }

    #[test]
    fn slips_are_refused() {
        let validator = Validator::new();
        for wrong in [
            "job: {script: make, scirpt: make}",
            "job: {script: make, when: sometimes}",
            "job: {script: make, retry: 7}",
            "job: {script: make, interruptible: perhaps}",
            "job: {script: make, artifacts: {reports: {unit: a.xml}}}",
            "job: [{script: make}]",
            "default: {script: make}",
            "workflow: {rules: [{when: manual}]}",
        ] {
            assert!(validator.refusal(wrong).is_some(), "accepted: {wrong}");
        }
    }

    #[test]
    fn keys_carry_their_meaning() {
        let schema = json_schema();
        let script = &schema["additionalProperties"]["anyOf"][0]["properties"]["script"];
        assert!(script["description"].as_str().is_some_and(|text| text.starts_with("Commands")), "{script}");
    }
}
