//! The log: JSON lines in a file, each with its call, the call's trace id, and the stages of the call so far.
//!
//! # Guarantees
//! * A line is one write at the end of the file, so that lines of concurrent calls do not mix.
//! * A log that cannot be opened or written never fails a call and never blocks it.
//! * The log is never standard output, which belongs to the one document, nor standard input. What came on standard input is not
//!   logged.
//!
//! A subscriber of our own: a call is one process with one context, which needs neither spans nor filters, and the
//! library that has them is a tenth of a megabyte in every start of the plugin.

mod file;
mod time;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use atoll_model::config::LogConfig;
use atoll_node::files::print;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::call_trace::CallTrace;

/// The fields of a call that are known before it begins.
#[derive(Clone, Debug, Default)]
pub struct Context(Map<String, Value>);

impl Context {
    /// Adds a field, if it has a value.
    #[must_use]
    pub fn with(mut self, key: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.to_string().into());
        }
        self
    }
}

/// Begins to log as configured. If there is no log, the reason goes to standard error: a call without a log is better than
/// none.
pub fn begin(config: &LogConfig, context: Context, trace: &CallTrace) {
    let Some(path) = &config.file else { return };
    match Log::open(path, config, context, trace) {
        // A subscriber is set already in tests only.
        Ok(log) => drop(tracing::subscriber::set_global_default(log)),
        Err(_) if file::is_error_the_output() => {}
        Err(error) => print::say(&format!("atoll: no log in {}: {error}\n", path.display())),
    }
}

struct Log {
    file: File,
    level: LevelFilter,
    context: Context,
    trace: CallTrace,
}

impl Log {
    fn open(path: &Path, config: &LogConfig, context: Context, trace: &CallTrace) -> io::Result<Self> {
        let file = file::open(path, config)?;
        let level = config.level.parse().unwrap_or(LevelFilter::INFO);
        Ok(Self { file, level, context, trace: trace.clone() })
    }

    fn line(&self, event: &Event<'_>) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("time".to_owned(), time::now().into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.extend(self.context.0.clone());
        if let Some(tenant) = self.trace.tenant() {
            line.insert("tenant".to_owned(), tenant.into());
        }
        event.record(&mut Fields(&mut line));
        let mut stages = Map::new();
        for (name, took) in self.trace.stages() {
            let before = stages.get(name).and_then(Value::as_f64).unwrap_or(0.0);
            // Milliseconds with three digits after the point; stages of one name are added up.
            let all = before + took.as_secs_f64() * 1000.0;
            stages.insert(name.to_owned(), ((all * 1000.0).round() / 1000.0).into());
        }
        line.insert("stages".to_owned(), stages.into());
        line
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Value::Object(self.line(event)).to_string();
        text.push('\n');
        // One write; a full disk loses the line and nothing else.
        let _ = (&self.file).write_all(text.as_bytes());
    }

    // Our own code has no spans, and those of libraries add nothing to the context of the call.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Collects the fields of an event.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let all = std::iter::once(value.to_string()).chain(atoll_model::error::causes(value));
        self.put(field, all.collect::<Vec<_>>().join(": ").into());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> LogConfig {
        LogConfig { file: None, level: "info".to_owned(), max_bytes: 1 << 20, keep: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_has_its_call_and_its_trace() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cni.log");
        let context = Context::default().with("command", Some("ADD")).with("trace", None::<&str>);
        let trace = CallTrace::new();
        let log = Log::open(&path, &config(), context, &trace).expect("it can be written");
        tracing::subscriber::with_default(log, || {
            tracing::info!(attachment = "x", count = 7, "first\nline");
            tracing::debug!("not this one");
        });
        trace.set_tenant(&atoll_model::ids::TenantName::new("red").expect("valid"));
        for _ in 0..2 {
            trace.stage("claim", tokio::time::sleep(Duration::from_millis(2))).await;
        }
        let log = Log::open(&path, &config(), Context::default(), &trace).expect("it can be written");
        let error = std::io::Error::other("broken");
        tracing::subscriber::with_default(log, || {
            tracing::warn!(error = &error as &dyn std::error::Error, yes = true, "second");
        });
        let text = std::fs::read_to_string(&path).expect("written");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [first, second] = lines.as_slice() else { panic!("{text}") };
        assert_eq!(
            (&first["message"], &first["attachment"], &first["count"]),
            (&"first\nline".into(), &"x".into(), &7.into())
        );
        assert_eq!((&first["level"], &first["command"], first.get("trace")), (&"INFO".into(), &"ADD".into(), None));
        assert!(first["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{first}");
        assert_eq!(
            (&second["error"], &second["yes"], &second["tenant"]),
            (&"broken".into(), &true.into(), &"red".into())
        );
        assert_eq!(second["stages"], serde_json::json!({ "claim": 4.0 }));
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_no_log() {
        assert!(Log::open(Path::new("/proc/no/such"), &config(), Context::default(), &CallTrace::new()).is_err());
        begin(&config(), Context::default(), &CallTrace::new());
    }
}
