//! What a build tells, in the words of Docker's classic builder.

use dockwright_build::{
    backend::{OutputStream, PullProgress},
    progress::BuildEvent,
};
use dockwright_store::ImageId;
use serde_json::{Value, json};

use crate::{
    api::progress,
    broker::{Amount, Progress},
};

/// Turns events into lines.
pub(super) struct Lines {
    quiet: bool,
    /// Bytes of a character that is not complete yet, of standard output and of standard error.
    incomplete: [Vec<u8>; 2],
}

impl Lines {
    /// A quiet build tells nothing but its result.
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, incomplete: [Vec::new(), Vec::new()] }
    }

    /// Returns the lines of an event.
    pub(super) fn of(&mut self, event: BuildEvent) -> Vec<Value> {
        if self.quiet {
            return Vec::new();
        }
        match event {
            BuildEvent::StepStarted { number, total, text } => {
                vec![stream(&format!("Step {number}/{total} : {text}")), stream("\n")]
            }
            BuildEvent::Pull(line) => vec![pull(line)],
            BuildEvent::Triggers { count: 1 } => vec![stream("# Executing 1 build trigger\n")],
            BuildEvent::Triggers { count } => vec![stream(&format!("# Executing {count} build triggers\n"))],
            BuildEvent::Cached => vec![stream(" ---> Using cache\n")],
            BuildEvent::Running { container } => vec![stream(&format!(" ---> Running in {}\n", short(&container)))],
            BuildEvent::Output { stream: from, bytes } => self.output(from, &bytes),
            BuildEvent::Removed { container } => vec![stream(&format!("Removing intermediate container {}\n", short(&container)))],
            BuildEvent::Layer { image } => {
                vec![stream(&format!(" ---> {}\n", image.map(|image| image.short()).unwrap_or_default()))]
            }
            BuildEvent::Warning { message } => vec![stream(&format!("[Warning] {message}\n"))],
            BuildEvent::StageFinished { image } => vec![json!({"aux": {"ID": image}})],
            BuildEvent::Built { image } => vec![stream(&format!("Successfully built {}\n", image.short()))],
            BuildEvent::Tagged { name } => vec![stream(&format!("Successfully tagged {name}\n"))],
        }
    }

    /// Returns what ends a build that went well.
    pub(super) fn end(&self, image: ImageId) -> Vec<Value> {
        if self.quiet { vec![stream(&format!("{image}\n"))] } else { Vec::new() }
    }

    /// Output arrives in arbitrary pieces, and JSON takes whole characters.
    fn output(&mut self, from: OutputStream, bytes: &[u8]) -> Vec<Value> {
        let incomplete = &mut self.incomplete[usize::from(from == OutputStream::Stderr)];
        incomplete.extend_from_slice(bytes);
        let end = complete_end(incomplete);
        let rest = incomplete.split_off(end);
        let complete = std::mem::replace(incomplete, rest);
        if complete.is_empty() { Vec::new() } else { vec![stream(&String::from_utf8_lossy(&complete))] }
    }
}

fn stream(text: &str) -> Value {
    json!({ "stream": text })
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

fn pull(line: PullProgress) -> Value {
    let amount = line.current.map(|current_bytes| Amount { current_bytes, total_bytes: line.total });
    let line = Progress { id: line.id, status: line.status, amount };
    serde_json::to_value(progress::line(&line)).expect("a line has string keys")
}

/// Returns where the last complete character ends. Bytes that are no character at all count as complete.
fn complete_end(bytes: &[u8]) -> usize {
    const LONGEST_CHARACTER_BYTES: usize = 4;
    let tail = bytes.len().saturating_sub(LONGEST_CHARACTER_BYTES - 1)..bytes.len();
    for start in tail.rev() {
        let expected = match bytes[start] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            // In the middle of a character.
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if bytes.len() - start < expected { start } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_build_reads_as_dockers_does() {
        let image = ImageId(dockwright_store::Digest::of(b"image"));
        let container = "0123456789abcdef".to_owned();
        let events = [
            BuildEvent::StepStarted { number: 1, total: 2, text: "FROM busybox".to_owned() },
            BuildEvent::Layer { image: Some(image) },
            BuildEvent::StepStarted { number: 2, total: 2, text: "RUN echo hi".to_owned() },
            BuildEvent::Running { container: container.clone() },
            BuildEvent::Output { stream: OutputStream::Stdout, bytes: b"hi\n".to_vec() },
            BuildEvent::Removed { container },
            BuildEvent::Layer { image: Some(image) },
            BuildEvent::StageFinished { image },
            BuildEvent::Built { image },
            BuildEvent::Tagged { name: "app:latest".to_owned() },
        ];
        let mut lines = Lines::new(false);
        let text: Vec<String> = events.iter().flat_map(|event| lines.of(event.clone())).map(|line| line.to_string()).collect();
        expect![[r#"
            {"stream":"Step 1/2 : FROM busybox"}
            {"stream":"\n"}
            {"stream":" ---> 6105d6cc76af\n"}
            {"stream":"Step 2/2 : RUN echo hi"}
            {"stream":"\n"}
            {"stream":" ---> Running in 0123456789ab\n"}
            {"stream":"hi\n"}
            {"stream":"Removing intermediate container 0123456789ab\n"}
            {"stream":" ---> 6105d6cc76af\n"}
            {"aux":{"ID":"sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"}}
            {"stream":"Successfully built 6105d6cc76af\n"}
            {"stream":"Successfully tagged app:latest\n"}"#]]
        .assert_eq(&text.join("\n"));

        let mut quiet = Lines::new(true);
        assert!(events.into_iter().all(|event| quiet.of(event).is_empty()));
        assert_eq!(quiet.end(image), [json!({"stream": format!("{image}\n")})]);
    }

    #[test]
    fn characters_are_not_cut() {
        let mut lines = Lines::new(false);
        let mut text = String::new();
        for byte in "aä€😀\u{fffd}".bytes() {
            for line in lines.of(BuildEvent::Output { stream: OutputStream::Stdout, bytes: vec![byte] }) {
                text.push_str(line["stream"].as_str().expect("text"));
            }
        }
        assert_eq!(text, "aä€😀\u{fffd}");
        let broken = lines.of(BuildEvent::Output { stream: OutputStream::Stderr, bytes: vec![0xff, b'x'] });
        assert_eq!(broken, [json!({"stream": "\u{fffd}x"})]);
    }
}
