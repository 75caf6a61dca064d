//! One document of a report.

use std::borrow::Cow;

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesRef, BytesStart, Event},
};

use super::{FailedTest, MAX_NAMED, TestReport, one_line};

/// What is kept of the text of a failure; its first line is looked for in it.
const TEXT_SIZE_BYTES: usize = 4096;

/// Why a document cannot be read on.
pub(super) struct Malformed {
    /// From 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// How a case ended; of several, the last of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Passed,
    Skipped,
    Error,
    Failure,
}

/// A case that is being read.
struct Case {
    name: String,
    class: Option<String>,
    outcome: Outcome,
    message: Option<String>,
    text: String,
    /// Depth of the element whose text is its message.
    told_at: Option<usize>,
}

/// Adds the cases of a document to a report. Those before a mistake count.
pub(super) fn read(text: &str, report: &mut TestReport) -> Result<(), Malformed> {
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    reader.config_mut().expand_empty_elements = true;
    let malformed = |position: u64, reason: String| Malformed { line: line_of(text, position), reason };
    let (mut depth, mut is_empty) = (0_usize, true);
    let mut case: Option<Case> = None;
    loop {
        let event = reader.read_event().map_err(|error| malformed(reader.error_position(), error.to_string()))?;
        let at = reader.buffer_position();
        match event {
            Event::Start(element) => {
                (depth, is_empty) = (depth + 1, false);
                start(&element, depth, &mut case).map_err(|reason| malformed(at, reason))?;
            }
            Event::End(element) => {
                depth -= 1;
                if let Some(open) = &mut case {
                    open.told_at = open.told_at.filter(|told| *told <= depth);
                }
                if element.local_name().as_ref() == b"testcase"
                    && let Some(ended) = case.take()
                {
                    add(ended, report);
                }
            }
            Event::Text(content) => tell(&mut case, || content.decode().unwrap_or_default().into_owned()),
            Event::CData(content) => tell(&mut case, || content.decode().unwrap_or_default().into_owned()),
            Event::GeneralRef(reference) => tell(&mut case, || referred(&reference)),
            Event::Eof if depth > 0 => return Err(malformed(at, "the document ends within an element".to_owned())),
            Event::Eof if is_empty => return Err(malformed(at, "there is no element".to_owned())),
            Event::Eof => return Ok(()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn line_of(text: &str, position: u64) -> usize {
    let position = usize::try_from(position).unwrap_or(usize::MAX).min(text.len());
    text.as_bytes()[..position].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn start(element: &BytesStart<'_>, depth: usize, case: &mut Option<Case>) -> Result<(), String> {
    let outcome = match element.local_name().as_ref() {
        b"testcase" => {
            *case = Some(Case {
                name: attribute(element, "name")?.unwrap_or_default(),
                class: attribute(element, "classname")?.filter(|class| !class.is_empty()),
                outcome: Outcome::Passed,
                message: None,
                text: String::new(),
                told_at: None,
            });
            return Ok(());
        }
        b"failure" => Outcome::Failure,
        b"error" => Outcome::Error,
        b"skipped" => Outcome::Skipped,
        _ => return Ok(()),
    };
    if let Some(case) = case.as_mut().filter(|case| outcome > case.outcome) {
        case.outcome = outcome;
        case.message = attribute(element, "message")?;
        case.text.clear();
        case.told_at = Some(depth);
    }
    Ok(())
}

/// Returns an attribute, with references to unknown entities as they are.
fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    let Some(attribute) = element.try_get_attribute(name).map_err(|error| error.to_string())? else { return Ok(None) };
    let value = attribute.normalized_value(XmlVersion::Implicit1_0);
    Ok(Some(one_line(&value.unwrap_or_else(|_| String::from_utf8_lossy(&attribute.value)))))
}

fn tell(case: &mut Option<Case>, text: impl FnOnce() -> String) {
    if let Some(case) = case.as_mut().filter(|case| case.told_at.is_some() && case.text.len() < TEXT_SIZE_BYTES) {
        case.text.push_str(&text());
    }
}

fn referred(reference: &BytesRef<'_>) -> String {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character.to_string();
    }
    let name: Cow<'_, str> = reference.decode().unwrap_or_default();
    resolve_predefined_entity(&name).map_or_else(|| format!("&{name};"), str::to_owned)
}

fn add(case: Case, report: &mut TestReport) {
    report.tests += 1;
    match case.outcome {
        Outcome::Passed => return,
        Outcome::Skipped => {
            report.skipped += 1;
            return;
        }
        Outcome::Error => report.errors += 1,
        Outcome::Failure => report.failures += 1,
    }
    if report.failed.len() < MAX_NAMED {
        let told = case.message.filter(|message| !message.is_empty()).unwrap_or_else(|| one_line(&case.text));
        report.failed.push(FailedTest { name: case.name, class: case.class, message: Some(told).filter(|told| !told.is_empty()) });
    }
}
