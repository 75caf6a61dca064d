//! Time and stream at the head of each line of a trace, in the format that GitLab's viewer strips.
//!
//! `2026-08-22T10:00:09.100000Z 01E ` and then the line. The last byte of the head is `+` where the line continues the one before
//! of the same stream, which happens at carriage returns (section markers, progress bars) and in very long lines.

use jiff::Timestamp;

use super::Stream;

/// A line without an end is passed on after so many bytes.
const LINE_LIMIT_BYTES: usize = 8 * 1024;

/// Splits the output of all streams into lines with heads.
#[derive(Debug, Default)]
pub(crate) struct Timestamper {
    lines: [Line; Stream::COUNT],
}

#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    continues: bool,
}

impl Timestamper {
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Vec<u8> {
        let line = &mut self.lines[stream.index()];
        let mut out = Vec::with_capacity(bytes.len() + 32);
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            line.text.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                line.pass_on(stream, now, &mut out);
                line.continues = false;
            } else if piece.contains(&b'\r') || line.text.len() >= LINE_LIMIT_BYTES {
                line.text.push(b'\n');
                line.pass_on(stream, now, &mut out);
                line.continues = true;
            }
        }
        out
    }

    /// Returns the line that had no end.
    pub(crate) fn finish(&mut self, stream: Stream, now: Timestamp) -> Vec<u8> {
        let line = &mut self.lines[stream.index()];
        let mut out = Vec::new();
        if !line.text.is_empty() {
            line.text.push(b'\n');
            line.pass_on(stream, now, &mut out);
        }
        out
    }
}

impl Line {
    fn pass_on(&mut self, stream: Stream, now: Timestamp, out: &mut Vec<u8>) {
        let flag = if self.continues { '+' } else { ' ' };
        out.extend_from_slice(now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ ").to_string().as_bytes());
        out.extend_from_slice(format!("{}{flag}", stream.code()).as_bytes());
        out.append(&mut self.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn lines_have_heads_of_32_bytes() {
        let mut stamper = Timestamper::default();
        let out = stamper.push(Stream::Stdout, b"$ docker info\nWARN", at("2026-08-22T10:00:09Z"));
        assert_eq!(out, b"2026-08-22T10:00:09.000000Z 01O $ docker info\n");
        assert_eq!(out.iter().position(|&byte| byte == b'$'), Some(32));
        let rest = stamper.finish(Stream::Stdout, at("2026-08-22T10:00:10.5Z"));
        assert_eq!(rest, b"2026-08-22T10:00:10.500000Z 01O WARN\n");
    }

    #[test]
    fn a_section_marker_is_its_own_entry_and_the_title_continues_it() {
        let mut stamper = Timestamper::default();
        let mut out = stamper.push(Stream::Runner, b"section_start:1:x\r\x1b[0K", at("2026-08-22T10:00:00Z"));
        out.extend(stamper.push(Stream::Runner, b"\x1b[0KTitle\n", at("2026-08-22T10:00:00Z")));
        assert_eq!(
            String::from_utf8_lossy(&out),
            "2026-08-22T10:00:00.000000Z 00O section_start:1:x\r\x1b[0K\n2026-08-22T10:00:00.000000Z 00O+\x1b[0KTitle\n"
        );
    }
}
