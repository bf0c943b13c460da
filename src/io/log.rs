//! The log: one logfmt line per fact, on standard error.

use std::io::Write;
use std::time::SystemTime;

use log::{LevelFilter, Log, Metadata, Record};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

struct Stderr;

/// Starts logging from `level` up: `error`, `warn`, `info`, `debug` or `trace`.
///
/// # Errors
///
/// `level` is none of these.
pub fn start(level: &str) -> Result<(), String> {
    let filter: LevelFilter = level
        .parse()
        .map_err(|_| format!("no log level {level}: use error, warn, info, debug or trace"))?;
    // A second start in one process only changes the level.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(filter);
    Ok(())
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("cluster_connect")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = OffsetDateTime::from(SystemTime::now());
        let now = now.replace_millisecond(now.millisecond()).unwrap_or(now);
        let time = now.format(&Rfc3339).unwrap_or_default();
        let level = record.level().as_str().to_ascii_lowercase();
        let text = record.args().to_string();
        // What comes from outside must not start a line of its own or move the cursor.
        let clean: String =
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        // A log that cannot be written is nothing that could be logged.
        let _ = writeln!(std::io::stderr().lock(), "time={time} level={level} {clean}");
    }

    fn flush(&self) {}
}
