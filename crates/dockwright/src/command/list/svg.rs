//! The pipeline as a picture: stages from left to right, a box for each job, a curve for each of its `needs`.
//!
//! A job that needs another one of its stage stands in a further column of the stage, so that every curve leads to the right. Jobs
//! without `needs` wait for the stages on their left and have no curves: those would be as many as there are pairs of jobs.

use std::{collections::HashMap, fmt::Write as _};

use dockwright_pipeline::Pipeline;

use super::{Line, graph::remarks};

const MARGIN: usize = 20;
const TITLE_HEIGHT: usize = 30;
const BOX_HEIGHT: usize = 30;
const ROW_HEIGHT: usize = 42;
const COLUMN_GAP: usize = 60;
/// Of 13 px text; wide enough for most fonts.
const CHARACTER_WIDTH: usize = 8;
const PADDING: usize = 12;

/// A job with its box.
struct Placed<'pipeline> {
    label: String,
    line: &'pipeline Line<'pipeline>,
    x: usize,
    y: usize,
    width: usize,
}

/// Jobs above one another.
struct Column<'pipeline> {
    /// In the first column of the stage.
    title: Option<&'pipeline str>,
    jobs: Vec<&'pipeline Line<'pipeline>>,
}

pub(super) fn document(pipeline: &Pipeline, lines: &[Line<'_>]) -> String {
    let columns = columns(pipeline, lines);
    let mut titles = String::new();
    let mut placed: Vec<Placed<'_>> = Vec::with_capacity(lines.len());
    let mut x = MARGIN;
    for column in &columns {
        let labels: Vec<String> = column.jobs.iter().map(|line| format!("{}{}", line.name, remarks(line))).collect();
        let longest = labels.iter().map(String::as_str).chain(column.title).map(|text| text.chars().count()).max().unwrap_or(0);
        let width = longest * CHARACTER_WIDTH + 2 * PADDING;
        if let Some(title) = column.title {
            let _ = writeln!(titles, r#"<text class="stage" x="{x}" y="{}">{}</text>"#, MARGIN + 14, escape(title));
        }
        let rows = labels.into_iter().zip(&column.jobs).enumerate();
        placed.extend(rows.map(|(row, (label, line))| Placed { label, line, x, y: MARGIN + TITLE_HEIGHT + row * ROW_HEIGHT, width }));
        x += width + COLUMN_GAP;
    }
    let rows = columns.iter().map(|column| column.jobs.len()).max().unwrap_or(0);
    let (width, height) = (x.saturating_sub(COLUMN_GAP) + MARGIN, 2 * MARGIN + TITLE_HEIGHT + rows * ROW_HEIGHT);
    let boxes: String = placed.iter().map(job).collect();
    format!("{}{titles}{}{boxes}</svg>\n", head(width, height), curves(&placed))
}

/// Divides every stage by how many jobs of the same stage a job waits for, one after the other.
fn columns<'a>(pipeline: &'a Pipeline, lines: &'a [Line<'a>]) -> Vec<Column<'a>> {
    let mut columns = Vec::new();
    for stage in &pipeline.stages {
        let jobs: Vec<&Line<'_>> = lines.iter().filter(|line| line.stage == stage).collect();
        let depths = depths(&jobs);
        for depth in 0..=depths.iter().copied().max().unwrap_or(0) {
            let jobs = jobs.iter().zip(&depths).filter(|(_, of_job)| **of_job == depth).map(|(line, _)| *line).collect();
            columns.push(Column { title: (depth == 0).then_some(stage.as_str()), jobs });
        }
    }
    columns
}

fn depths(jobs: &[&Line<'_>]) -> Vec<usize> {
    let places: HashMap<&str, usize> = jobs.iter().enumerate().map(|(place, line)| (line.name, place)).collect();
    let mut depths = vec![0; jobs.len()];
    // A chain of n jobs is settled after n rounds; the bound also ends what a circle would not.
    for _ in jobs {
        let mut is_settled = true;
        for (place, line) in jobs.iter().enumerate() {
            let needed = line.needs.iter().flatten().filter_map(|name| places.get(name));
            let depth = needed.map(|needed| depths[*needed] + 1).max().unwrap_or(0);
            is_settled &= depths[place] == depth;
            depths[place] = depth;
        }
        if is_settled {
            break;
        }
    }
    depths
}

fn head(width: usize, height: usize) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>
text {{ font: 13px sans-serif; fill: #222; }}
.stage {{ font-weight: bold; }}
rect {{ fill: #fff; stroke: #666; }}
.manual rect, .delayed rect {{ stroke-dasharray: 4 3; }}
path {{ fill: none; stroke: #888; }}
</style>
<rect width="{width}" height="{height}" style="fill: #f6f6f6; stroke: none"/>
"##
    )
}

fn curves(placed: &[Placed<'_>]) -> String {
    let places: HashMap<&str, &Placed<'_>> = placed.iter().map(|job| (job.line.name, job)).collect();
    let mut output = String::new();
    for job in placed {
        for needed in job.line.needs.iter().flatten().filter_map(|name| places.get(name)) {
            let (from_x, from_y) = (needed.x + needed.width, needed.y + BOX_HEIGHT / 2);
            let (to_x, to_y) = (job.x, job.y + BOX_HEIGHT / 2);
            let (leave, arrive) = (from_x + COLUMN_GAP / 2, to_x.saturating_sub(COLUMN_GAP / 2));
            let _ = writeln!(output, r#"<path d="M{from_x} {from_y} C{leave} {from_y} {arrive} {to_y} {to_x} {to_y}"/>"#);
        }
    }
    output
}

fn job(job: &Placed<'_>) -> String {
    let Placed { label, line, x, y, width } = job;
    let (text_x, text_y, label) = (x + PADDING, y + BOX_HEIGHT / 2 + 5, escape(label));
    format!(
        "<g class=\"{}\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"6\"/>\
         <text x=\"{text_x}\" y=\"{text_y}\">{label}</text></g>\n",
        line.when
    )
}

/// Writes text for XML, which has no way to say most control characters.
fn escape(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => output.push_str("&amp;"),
            '<' => output.push_str("&lt;"),
            '>' => output.push_str("&gt;"),
            '"' => output.push_str("&quot;"),
            '\'' => output.push_str("&apos;"),
            _ if character.is_control() || matches!(character, '\u{FFFE}' | '\u{FFFF}') => output.push(char::REPLACEMENT_CHARACTER),
            _ => output.push(character),
        }
    }
    output
}
