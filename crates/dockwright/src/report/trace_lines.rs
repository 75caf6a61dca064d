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
        let mut visible = "";
        let mut had_marker = false;
        for segment in text.trim_end_matches(['\n', '\r']).split('\r') {
            let segment = segment.strip_prefix(ERASE_LINE).unwrap_or(segment);
            match Marker::parse(segment) {
                Some(Marker::Start(name)) => {
                    had_marker = true;
                    items.push(TraceItem::Phase(name.to_owned()));
                }
                Some(Marker::End) => had_marker = true,
                None if segment.is_empty() => {}
                None => visible = segment,
            }
        }
        if !visible.is_empty() || !had_marker {
            items.push(TraceItem::Line(visible.to_owned()));
        }
    }
}

enum Marker<'text> {
    Start(&'text str),
    End,
}

impl<'text> Marker<'text> {
    fn parse(segment: &'text str) -> Option<Self> {
        if let Some(rest) = segment.strip_prefix("section_start:") {
            let name = after_time(rest)?;
            return Some(Self::Start(name.split('[').next().unwrap_or(name)));
        }
        after_time(segment.strip_prefix("section_end:")?).map(|_| Self::End)
    }
}

fn after_time(text: &str) -> Option<&str> {
    let (time, name) = text.split_once(':')?;
    (!time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty()).then_some(name)
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
