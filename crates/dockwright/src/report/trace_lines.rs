//! A job's trace as lines and phases.
//!
//! A trace is bytes in arbitrary chunks, with GitLab's section markers (`section_start:TIME:NAME\r\x1b[0K`) among them. Markers become
//! phases; of a line that a program redrew with carriage returns, the last state counts. Bytes need not be UTF-8.

/// Longest line that is held back while its end is awaited; longer ones are cut in pieces.
const MAX_LINE_BYTES: usize = 64 * 1024;

const ERASE_LINE: &str = "\x1b[0K";

/// A part of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TraceItem {
    /// A section began.
    Phase(String),
    Line(String),
}

/// Cuts a trace into items.
#[derive(Debug, Default)]
pub(crate) struct TraceLines {
    pending: Vec<u8>,
}

impl TraceLines {
    /// Takes the next chunk and returns what it completed.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<TraceItem> {
        let mut items = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.pending.len() >= MAX_LINE_BYTES {
                self.take_line(&mut items);
            }
        }
        items
    }

    /// Returns what is left when the trace ends.
    pub(crate) fn finish(&mut self) -> Vec<TraceItem> {
        let mut items = Vec::new();
        if !self.pending.is_empty() {
            self.take_line(&mut items);
        }
        items
    }

    fn take_line(&mut self, items: &mut Vec<TraceItem>) {
        let bytes = std::mem::take(&mut self.pending);
        let text = String::from_utf8_lossy(&bytes);
        let mut rest = text.trim_end_matches(['\n', '\r']);
        let mut had_marker = false;
        while let Some(marker) = Marker::find(rest) {
            had_marker = true;
            items.extend(visible(marker.before).map(TraceItem::Line));
            items.extend(marker.started.map(|name| TraceItem::Phase(name.to_owned())));
            rest = marker.after;
        }
        match visible(rest) {
            Some(line) => items.push(TraceItem::Line(line)),
            None if had_marker => {}
            None => items.push(TraceItem::Line(String::new())),
        }
    }
}

/// Returns the last state of a line that was redrawn.
fn visible(text: &str) -> Option<String> {
    let erased = |segment: &'_ str| segment.trim_start_matches(ERASE_LINE).to_owned();
    text.rsplit('\r').map(erased).find(|segment| !segment.is_empty())
}

/// A section marker in a line; output that does not end its line may stand before it.
struct Marker<'text> {
    before: &'text str,
    /// Name of the section, for the marker of a start.
    started: Option<&'text str>,
    after: &'text str,
}

impl<'text> Marker<'text> {
    fn find(text: &'text str) -> Option<Self> {
        text.match_indices("section_").find_map(|(at, _)| {
            let (is_start, rest) = match text[at..].strip_prefix("section_start:") {
                Some(rest) => (true, rest),
                None => (false, text[at..].strip_prefix("section_end:")?),
            };
            let (marker, after) = rest.split_once('\r').unwrap_or((rest, ""));
            let (time, name) = marker.split_once(':')?;
            if time.is_empty() || name.is_empty() || !time.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let name = name.split('[').next().unwrap_or(name);
            Some(Self { before: &text[..at], started: is_start.then_some(name), after })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&[u8]]) -> Vec<TraceItem> {
        let mut lines = TraceLines::default();
        let mut items: Vec<_> = chunks.iter().flat_map(|chunk| lines.push(chunk)).collect();
        items.extend(lines.finish());
        items
    }

    fn line(text: &str) -> TraceItem {
        TraceItem::Line(text.to_owned())
    }

    #[test]
    fn markers_become_phases_and_headers_stay() {
        let trace = b"section_start:1560896352:step_script\r\x1b[0KExecuting\n$ make\nsection_end:1560896353:step_script\r\x1b[0K\nafter\n";
        assert_eq!(all(&[trace]), [TraceItem::Phase("step_script".into()), line("Executing"), line("$ make"), line("after")]);
    }

    #[test]
    fn an_end_and_a_start_may_share_a_line() {
        let trace = b"\x1b[0Ksection_end:1:a\r\x1b[0Ksection_start:2:b[collapsed=true]\r\x1b[0K\x1b[36;1mHead\x1b[0;m\n";
        assert_eq!(all(&[trace]), [TraceItem::Phase("b".into()), line("\x1b[36;1mHead\x1b[0;m")]);
    }

    #[test]
    fn output_without_a_line_end_stays_before_a_marker() {
        let trace = b"no newline\x1b[0Ksection_end:1:a\r\x1b[0K\n";
        assert_eq!(all(&[trace]), [line("no newline\x1b[0K")]);
    }

    #[test]
    fn chunks_may_cut_anywhere() {
        let trace: &[u8] = "section_start:1:a\r\x1b[0Kä\n\nx\r\n10%\r20%\nend".as_bytes();
        let whole = all(&[trace]);
        assert_eq!(whole, [TraceItem::Phase("a".into()), line("ä"), line(""), line("x"), line("20%"), line("end")]);
        for cut in 0..trace.len() {
            assert_eq!(all(&[&trace[..cut], &trace[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn text_that_resembles_a_marker_stays_text() {
        assert_eq!(all(&[b"section_start:now:a\n"]), [line("section_start:now:a")]);
    }

    #[test]
    fn a_line_without_end_does_not_grow_for_ever() {
        let mut lines = TraceLines::default();
        let items = lines.push(&vec![b'x'; MAX_LINE_BYTES + 10]);
        assert_eq!(items.len(), 1);
        assert!(lines.pending.is_empty());
    }
}
