//! From parser events to nodes.

use std::{collections::HashMap, ops::Range, sync::Arc};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span as EventSpan, Tag};

use super::{
    Entry, Map, Node, Scalar, Value,
    node::{MAX_DEPTH, MAX_NODES},
    plain,
};
use crate::{
    diagnostic::Diagnostic,
    source::{SourceId, Span},
};

/// Composes the document at `range` of the file. Returns nothing after a syntax error.
pub(super) fn compose(source: SourceId, text: &str, range: Range<usize>, problems: &mut Vec<Diagnostic>) -> Option<Arc<Node>> {
    let options = granit_parser::options! {
        bom_inside_document_as_content: true,
        block_scalar_eof_without_line_feed: true,
        emit_unresolved_aliases: true,
        emit_comments: false,
    };
    let mut composer = Composer { source, text, base: range.start, stack: Vec::new(), anchors: HashMap::new(), root: None, problems };
    for event in Parser::new_from_str_with_options(&text[range], options) {
        let outcome = match event {
            Ok((Event::DocumentEnd, _)) => break,
            Ok((event, span)) => composer.event(event, span),
            Err(error) => Err(composer.syntax_error(&error)),
        };
        if let Err(problem) = outcome {
            composer.problems.push(problem);
            return None;
        }
    }
    composer.root
}

struct Composer<'a> {
    source: SourceId,
    text: &'a str,
    /// Where the document starts in the file.
    base: usize,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
    problems: &'a mut Vec<Diagnostic>,
}

/// A collection that is still open.
struct Frame {
    span: Span,
    anchor: usize,
    is_reference: bool,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    Map { map: Map, explicit: HashMap<String, Span>, key: Option<Key> },
}

struct Key {
    text: String,
    is_text: bool,
    span: Span,
}

/// A finished node, and whether it came through an alias: a merge of an aliased list differs from one of a written list.
struct Finished {
    node: Arc<Node>,
    is_alias: bool,
}

impl Composer<'_> {
    fn event(&mut self, event: Event<'_>, event_span: EventSpan) -> Result<(), Diagnostic> {
        let span = self.span(&event_span);
        match event {
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Diagnostic::error("yaml-recursive-alias", "an alias refers to the value that contains it").at(span));
                };
                self.add(Finished { node, is_alias: true }, span)
            }
            Event::UnresolvedAlias(name) => Err(self.unknown_alias(&name, span)),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(|tag| (tag, event_span.tag_span().map_or(span, |span| self.span(&span))));
                let value = self.scalar(&text, style, tag, span)?;
                let node = Arc::new(Node::new(value, span));
                if anchor != 0 {
                    self.anchors.insert(anchor, node.clone());
                }
                self.add(Finished { node, is_alias: false }, span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_class(tag.as_deref(), span)?;
                self.open(span, anchor, tag.as_deref(), Content::List(Vec::new()));
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_class(tag.as_deref(), span)?;
                self.open(span, anchor, tag.as_deref(), Content::Map { map: Map::new(), explicit: HashMap::new(), key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            _ => Ok(()),
        }
    }

    fn open(&mut self, span: Span, anchor: usize, tag: Option<&Tag>, content: Content) {
        // A redefined anchor must not show its former value inside of itself.
        self.anchors.remove(&anchor);
        self.stack.push(Frame { span, anchor, is_reference: tag.is_some_and(|tag| tag.original() == "!reference"), content });
    }

    fn close(&mut self, end: Span) -> Result<(), Diagnostic> {
        let frame = self.stack.pop().expect("the parser balances starts and ends");
        let span = self.first_line(frame.span, end);
        let value = match frame.content {
            Content::List(items) if frame.is_reference => Value::Reference(reference_path(&items)),
            Content::Map { .. } if frame.is_reference => Value::Reference(None),
            Content::List(items) => Value::List(items),
            Content::Map { map, .. } => Value::Map(map),
        };
        let node = Arc::new(Node::new(value, span));
        if node.is_too_big() {
            return Err(Diagnostic::error("yaml-too-big", "The parsed YAML is too big")
                .at(span)
                .help(format!("with aliases written out, at most {MAX_NODES} values and {MAX_DEPTH} levels are allowed")));
        }
        if frame.anchor != 0 {
            self.anchors.insert(frame.anchor, node.clone());
        }
        self.add(Finished { node, is_alias: false }, span)
    }

    fn add(&mut self, finished: Finished, span: Span) -> Result<(), Diagnostic> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(finished.node);
            return Ok(());
        };
        match &mut frame.content {
            Content::List(items) => items.push(finished.node),
            Content::Map { map, explicit, key } => match key.take() {
                None => *key = Some(mapping_key(&finished.node, span)?),
                Some(key) if key.text == "<<" && merge(map, explicit, &key, &finished, self.problems) => {}
                Some(key) => {
                    insert(map, explicit, key, finished.node, self.problems);
                }
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<(&Tag, Span)>, span: Span) -> Result<Value, Diagnostic> {
        // An absent value arrives as an empty place with the text `~`.
        let text = if span.start == span.end { "" } else { text };
        if let Some((tag, tag_span)) = tag {
            refuse_class(Some(tag), tag_span)?;
        }
        match tag {
            Some((tag, _)) if tag.original() == "!reference" => return Ok(Value::Reference(None)),
            Some((tag, _)) if tag.is_yaml_core_schema_tag("str") || tag.original() == "!str" => return Ok(Value::Text(text.to_owned())),
            // Ruby drops any other tag, and then types even what is quoted. A lone `!` is no tag to speak of.
            Some((tag, tag_span)) if tag.is_custom() && tag.original() != "!" => self.problems.push(
                Diagnostic::warning(
                    "yaml-unknown-tag",
                    format!("`{}` is a YAML tag without a meaning here and is dropped", tag.original()),
                )
                .at(tag_span)
                .help("put the value in quotes if it is meant to begin with `!`"),
            ),
            None if style != ScalarStyle::Plain => return Ok(Value::Text(text.to_owned())),
            _ => {}
        }
        match plain(text) {
            Scalar::Null => Ok(Value::Null),
            Scalar::Bool(value) => Ok(Value::Bool(value)),
            Scalar::Integer(value) => Ok(Value::Integer(value)),
            Scalar::Float(value) => Ok(Value::Float(value)),
            Scalar::Text(text) => Ok(Value::Text(text)),
            Scalar::Date => Err(Diagnostic::error("yaml-date", "Tried to load unspecified class: Date")
                .at(span)
                .help(format!("GitLab does not load dates; write it as a text: \"{text}\""))),
        }
    }

    /// Translates a place of the document to the file; only its first line is kept.
    fn span(&self, span: &EventSpan) -> Span {
        let range = span.byte_range().expect("byte offsets are known for a text");
        let (start, end) = (self.base + range.start, self.base + range.end);
        Span { source: self.source, start: offset(start), end: offset(end.min(self.line_end(start)).max(start)) }
    }

    /// Returns the first line of a collection that starts and ends at these places.
    fn first_line(&self, start: Span, end: Span) -> Span {
        let line_end = offset(self.line_end(start.start as usize));
        let end = if end.end > start.start { end.end.min(line_end) } else { line_end };
        let trimmed = self.text[start.start as usize..end as usize].trim_end().len();
        Span { end: start.start + offset(trimmed), ..start }
    }

    fn line_end(&self, start: usize) -> usize {
        self.text[start..].find(['\n', '\r']).map_or(self.text.len(), |length| start + length)
    }

    fn unknown_alias(&self, name: &str, span: Span) -> Diagnostic {
        Diagnostic::error("yaml-unknown-alias", format!("Unknown alias: {name}")).at(span).help(format!(
            "define it earlier in the same file with `&{name}`; anchors do not reach included files, use `extends` or `!reference` for that"
        ))
    }

    fn syntax_error(&self, error: &granit_parser::ScanError) -> Diagnostic {
        let offset_in_file = (self.base + error.marker().byte_offset().unwrap_or(0)).min(self.text.len());
        let start = (0..=offset_in_file).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        let width = self.text[start..].chars().next().filter(|next| *next != '\n').map_or(0, char::len_utf8);
        let span = Span { source: self.source, start: offset(start), end: offset(start + width) };
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let indent = self.text[line_start..].split(|next: char| next != ' ' && next != '\t').next().unwrap_or_default();
        let help = if indent.contains('\t') {
            "YAML does not allow tabs for indentation; use blanks"
        } else if matches!(error.kind(), ErrorKind::UnexpectedEof) {
            "a quote or bracket is not closed"
        } else {
            "check the indentation here and in the line before, and put texts with `: `, ` #` or a leading special character in quotes"
        };
        Diagnostic::error("yaml-syntax", format!("Invalid YAML syntax: {}", error.info())).at(span).help(help)
    }
}

/// Refuses tags that would make Ruby load a class that GitLab does not allow.
fn refuse_class(tag: Option<&Tag>, span: Span) -> Result<(), Diagnostic> {
    let Some(tag) = tag else { return Ok(()) };
    let original = tag.original();
    let class = match original.split_once("ruby/") {
        Some(("!" | "!!", class)) => class.split_once(':').map_or(class, |(_, class)| class).to_owned(),
        _ if matches!(original.as_str(), "!!set" | "!set" | "!<tag:yaml.org,2002:set>") => "Set".to_owned(),
        _ => return Ok(()),
    };
    Err(Diagnostic::error("yaml-class", format!("Tried to load unspecified class: {class}"))
        .at(span)
        .help(format!("remove the tag `{original}`")))
}

fn offset(position: usize) -> u32 {
    u32::try_from(position).expect("the size of a file is limited")
}

fn mapping_key(node: &Node, span: Span) -> Result<Key, Diagnostic> {
    let text = match &node.value {
        Value::Null => String::new(),
        _ => node.scalar_text().ok_or_else(|| {
            Diagnostic::error("yaml-complex-key", "a key must be a text")
                .at(span)
                .help(format!("this key is {}; `{{` and `[` begin a collection unless the text is in quotes", node.kind()))
        })?,
    };
    // Booleans such as `on:` become the text `true`; GitLab refuses numbers as job names.
    let is_text = !matches!(node.value, Value::Integer(_) | Value::Float(_));
    Ok(Key { text, is_text, span })
}

fn insert(map: &mut Map, explicit: &mut HashMap<String, Span>, key: Key, value: Arc<Node>, problems: &mut Vec<Diagnostic>) {
    if let Some(earlier) = explicit.insert(key.text.clone(), key.span) {
        problems.push(
            Diagnostic::warning("duplicate-key", format!("`{}` is defined twice; the last definition wins", key.text))
                .at(key.span)
                .also(earlier, "this one is ignored")
                .help("remove or rename one of them"),
        );
    }
    map.insert(key.text, Entry { key: key.span, key_is_text: key.is_text, value });
}

/// Applies `<<` where it is written: it overrides keys before it and yields to keys after it. Returns false when it is an ordinary key.
fn merge(map: &mut Map, explicit: &HashMap<String, Span>, key: &Key, value: &Finished, problems: &mut Vec<Diagnostic>) -> bool {
    let mut merged = Map::new();
    match &value.node.value {
        Value::Map(entries) => merged.clone_from(entries),
        // The first of a list wins. An alias to a list is not merged, in Ruby as here.
        Value::List(items) if !value.is_alias && items.iter().all(|item| item.as_map().is_some()) => {
            for entries in items.iter().rev().filter_map(|item| item.as_map()) {
                merged.extend(entries.iter().map(|(key, entry)| (key.clone(), entry.clone())));
            }
        }
        _ => return false,
    }
    for (name, entry) in merged {
        if let Some(earlier) = explicit.get(&name) {
            problems.push(
                Diagnostic::warning("merge-overrides-key", format!("`<<` overrides `{name}`, because it is written after it"))
                    .at(key.span)
                    .also(*earlier, "this value is lost")
                    .help("move `<<` to the top of the mapping"),
            );
        }
        map.insert(name, entry);
    }
    true
}

fn reference_path(items: &[Arc<Node>]) -> Option<Vec<String>> {
    let path: Option<Vec<String>> = items.iter().map(|item| item.as_text().map(str::to_owned)).collect();
    path.filter(|path| !path.is_empty())
}
