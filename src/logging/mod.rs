//! Logging: a logger for programs, and the names of keys.
//!
//! The library itself logs to the [`slog::Logger`] that it is given. A program that has none may use
//! [`terminal_or_json`].

pub(crate) mod escape;
pub(crate) mod guarded;
pub mod keys;
mod terminal;

use std::io::{self, IsTerminal, LineWriter, Write};
use std::sync::Mutex;

use slog::{Drain, FnValue, Level, Logger, PushFnValue, o};

use crate::clock::Clock;

/// A logger on standard error: coloured lines on a terminal, JSON lines anywhere else.
///
/// It writes before it returns: nothing is dropped under heavy logging, and nothing is lost in a crash. When standard
/// error cannot be written to, records are lost and the program continues.
///
/// ```
/// let log = callboard::logging::terminal_or_json(slog::Level::Info);
/// slog::info!(log, "starting"; callboard::logging::keys::VERSION => env!("CARGO_PKG_VERSION"));
/// ```
pub fn terminal_or_json(level: Level) -> Logger {
    if io::stderr().is_terminal() {
        rooted(level, terminal(slog_term::TermDecorator::new().stderr().build()))
    } else {
        rooted(level, json(io::stderr()))
    }
}

fn rooted<D>(level: Level, drain: D) -> Logger
where
    D: Drain + Send + 'static,
{
    // `fuse` would panic when standard error is a closed pipe.
    Logger::root(Mutex::new(drain).filter_level(level).ignore_res(), o!())
}

fn terminal<D>(decorator: D) -> impl Drain<Ok = (), Err = io::Error>
where
    D: slog_term::Decorator + Send + 'static,
{
    slog_term::FullFormat::new(terminal::Escaping(decorator))
        .use_custom_timestamp(|out: &mut dyn Write| write!(out, "{}", Clock::system().now()))
        .use_original_order()
        .build()
}

fn json<W: Write + Send + 'static>(out: W) -> impl Drain<Ok = (), Err = io::Error> {
    // Writes whole lines at a time, so that several processes can share the same standard error.
    slog_json::Json::new(LineWriter::new(out))
        .add_key_value(o!(
            "msg" => PushFnValue(|record, out| out.emit(record.msg())),
            "level" => FnValue(|record| record.level().as_str()),
            "ts" => FnValue(|_| Clock::system().now().to_string()),
        ))
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;
    use slog::{info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_hold_time_level_message_and_values() {
        let page = Page::default();
        let log = rooted(Level::Info, json(page.clone())).new(o!(keys::NODE => "alpha"));
        info!(log, "one\ntwo"; keys::COUNT => 3, keys::TYPE => "x");
        warn!(log, "next");
        slog::debug!(log, "below the level");
        let lines: Vec<Value> = page.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["msg"], "one\ntwo");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0][keys::NODE], "alpha");
        assert_eq!(lines[0][keys::COUNT], 3);
        assert_eq!(lines[1]["level"], "WARNING");
        let time = lines[0]["ts"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000000Z".len(), "{time}");
    }

    #[test]
    fn a_terminal_gets_one_harmless_line_for_each_record() {
        let page = Page::default();
        let decorator = slog_term::PlainSyncDecorator::new(page.clone());
        let log = rooted(Level::Info, terminal(decorator)).new(o!(keys::NODE => "alpha"));
        info!(log, "clear\u{1b}[2J\nforged line"; keys::ERROR => "bell\u{7}\nand more", keys::TYPE => "größer");
        let text = page.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with('\n') && !text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        for part in [r"clear\u{1b}[2J\nforged line", r"bell\u{7}\nand more", "größer", "alpha", " INFO "] {
            assert!(text.contains(part), "{part} is missing in {text:?}");
        }
    }

    #[test]
    fn a_closed_pipe_harms_nobody() {
        let log = rooted(Level::Info, json(ClosedPipe));
        info!(log, "lost");
        info!(log, "lost too");
    }
}
