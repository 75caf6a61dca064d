//! The log of the runner commands, in the three forms of GitLab Runner.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

use crate::cli::{LogFormat, LogLevel};

/// Where the fields of a line begin.
const FIELDS_COLUMN: usize = 44;

/// Changes the log of a running process.
#[derive(Clone)]
pub(crate) struct RunnerLog {
    filter: reload::Handle<EnvFilter, Registry>,
    format: Arc<RwLock<LogFormat>>,
}

impl RunnerLog {
    /// Starts the log.
    pub(crate) fn start(level: LogLevel, format: LogFormat) -> Self {
        let (filter, handle) = reload::Layer::new(filter(level));
        let format = Arc::new(RwLock::new(format));
        let lines = Lines { format: Arc::clone(&format), is_terminal: io::stderr().is_terminal() };
        let layer = tracing_subscriber::fmt::layer().event_format(lines).with_writer(io::stderr);
        tracing_subscriber::registry().with(filter).with(layer).init();
        Self { filter: handle, format }
    }

    /// Logs from now on what is at least so important.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // Fails only when the log has ended.
        let _ = self.filter.reload(filter(level));
    }

    /// Logs from now on in this form.
    pub(crate) fn set_format(&self, format: LogFormat) {
        *self.format.write().unwrap_or_else(PoisonError::into_inner) = format;
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(match level {
        LogLevel::Debug => "warn,dockwright=debug,dockwright_runner=debug",
        LogLevel::Info => "warn,dockwright=info,dockwright_runner=info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    })
}

struct Lines {
    format: Arc<RwLock<LogFormat>>,
    is_terminal: bool,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Lines {
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let level = *event.metadata().level();
        let format = *self.format.read().unwrap_or_else(PoisonError::into_inner);
        match format {
            LogFormat::Runner => line.write_runner(&mut writer, level, self.is_terminal),
            LogFormat::Text => line.write_text(&mut writer, level),
            LogFormat::Json => line.write_json(&mut writer, level),
        }
    }
}

/// One message with its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Line {
    fn write_runner(&self, writer: &mut Writer<'_>, level: Level, coloured: bool) -> fmt::Result {
        let (colour, prefix) = match level {
            Level::ERROR => ("\x1b[31;1m", "ERROR: "),
            Level::WARN => ("\x1b[0;33m", "WARNING: "),
            _ => ("", ""),
        };
        let text = format!("{prefix}{}", self.message);
        if coloured && !colour.is_empty() {
            write!(writer, "{colour}{text:<FIELDS_COLUMN$}\x1b[0;m")?;
        } else if self.fields.is_empty() {
            write!(writer, "{text}")?;
        } else {
            write!(writer, "{text:<FIELDS_COLUMN$}")?;
        }
        for (name, value) in &self.fields {
            write!(writer, " {name}={value}")?;
        }
        writeln!(writer)
    }

    fn write_text(&self, writer: &mut Writer<'_>, level: Level) -> fmt::Result {
        write!(writer, "time={} level={} msg={}", quote_if_needed(&now()), level_name(level), quote_if_needed(&self.message))?;
        for (name, value) in &self.fields {
            write!(writer, " {name}={}", quote_if_needed(value))?;
        }
        writeln!(writer)
    }

    fn write_json(&self, writer: &mut Writer<'_>, level: Level) -> fmt::Result {
        let mut object: serde_json::Map<String, serde_json::Value> =
            self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        object.insert("level".to_owned(), level_name(level).into());
        object.insert("msg".to_owned(), self.message.clone().into());
        object.insert("time".to_owned(), now().into());
        writeln!(writer, "{}", serde_json::Value::Object(object))
    }
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

fn quote_if_needed(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|next| next.is_ascii_alphanumeric() || "-._/@^+".contains(next));
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::new();
    let _ = write!(quoted, "{text:?}");
    quoted
}
