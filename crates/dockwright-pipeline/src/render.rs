//! Problems as text for people: the line with the place underlined, and what to do.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

use crate::{
    diagnostic::{Diagnostic, Severity},
    source::{SourceId, Sources, Span},
};

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

/// Renders one problem over several lines, without a final newline.
pub fn render(problem: &Diagnostic, sources: &Sources, style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain().decor_style(DecorStyle::Ascii),
        Style::Coloured => Renderer::styled().decor_style(DecorStyle::Unicode),
    };
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(problem.message.as_str()).id(problem.code));
    for snippet in snippets(problem, sources) {
        group = group.element(snippet);
    }
    if let Some(chain) = include_chain(problem, sources) {
        group = group.element(Level::NOTE.message(chain));
    }
    for help in &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

/// Renders one problem on one line: `path:line:column: severity: message [code]`.
pub fn render_line(problem: &Diagnostic, sources: &Sources) -> String {
    let place = problem.span.map(|span| {
        let position = sources.position(span);
        format!("{}:{}:{}: ", sources.get(span.source).name, position.line, position.column)
    });
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    format!("{}{severity}: {} [{}]", place.unwrap_or_default(), problem.message, problem.code)
}

/// Says how the file of a problem came in, unless it is the configuration itself.
fn include_chain(problem: &Diagnostic, sources: &Sources) -> Option<String> {
    let chain = sources.include_chain(problem.span?.source);
    let places: Vec<String> =
        chain.iter().map(|span| format!("`{}` line {}", sources.get(span.source).name, sources.position(*span).line)).collect();
    (!places.is_empty()).then(|| format!("included from {}", places.join(", from ")))
}

/// One snippet for each file with places, the primary one first.
fn snippets<'a>(problem: &'a Diagnostic, sources: &'a Sources) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let mut places: Vec<(SourceId, Vec<annotate_snippets::Annotation<'a>>)> = Vec::new();
    let mut add = |span: Span, annotation: annotate_snippets::Annotation<'a>| match places.iter_mut().find(|(id, _)| *id == span.source) {
        Some((_, annotations)) => annotations.push(annotation),
        None => places.push((span.source, vec![annotation])),
    };
    if let Some(span) = problem.span {
        add(span, AnnotationKind::Primary.span(span.range()));
    }
    for note in &problem.notes {
        add(note.span, AnnotationKind::Context.span(note.span.range()).label(note.text.as_str()));
    }
    places
        .into_iter()
        .map(|(id, annotations)| {
            let source = sources.get(id);
            Snippet::source(source.text.as_str()).path(source.name.as_str()).annotations(annotations)
        })
        .collect()
}
