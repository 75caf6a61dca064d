//! Events for programs: one JSON object per line, each with `schema`, `ts` and `type`.
//!
//! Within one schema number fields are only added.

use serde::Serialize;

use super::{Reporter, RunEvent, Streams};

const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Envelope<'event> {
    schema: u32,
    ts: String,
    #[serde(flatten)]
    event: &'event RunEvent,
}

pub(super) struct JsonReporter {
    streams: Streams,
}

impl JsonReporter {
    pub(super) fn new(streams: Streams) -> Self {
        Self { streams }
    }
}

impl Reporter for JsonReporter {
    fn event(&mut self, event: &RunEvent) {
        let envelope = Envelope { schema: SCHEMA, ts: format!("{:.3}", jiff::Timestamp::now()), event };
        let mut line = serde_json::to_vec(&envelope).expect("events hold only strings and numbers");
        line.push(b'\n');
        self.streams.raw_data(&line);
    }
}
