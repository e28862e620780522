//! Keeps untrusted text from controlling the terminal.

use std::io::{self, Write};

use slog::{OwnedKVList, Record};
use slog_term::{Decorator, RecordDecorator};

use super::escape::escape;

/// A decorator that escapes messages, keys and values. Colours and the line end come from the formatter itself.
pub(super) struct Escaping<D>(pub(super) D);

impl<D: Decorator> Decorator for Escaping<D> {
    fn with_record<F>(&self, record: &Record<'_>, values: &OwnedKVList, format: F) -> io::Result<()>
    where
        F: FnOnce(&mut dyn RecordDecorator) -> io::Result<()>,
    {
        self.0.with_record(record, values, |inner| format(&mut Escaped { inner, ours: true }))
    }
}

struct Escaped<'a> {
    inner: &'a mut dyn RecordDecorator,
    // True while the formatter writes its own output: spaces and the line end.
    ours: bool,
}

impl Write for Escaped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.ours {
            self.inner.write_all(bytes)?;
        } else {
            self.inner.write_all(escape(&String::from_utf8_lossy(bytes)).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

macro_rules! pass_on {
    ($($method:ident: $ours:literal,)+) => {
        $(fn $method(&mut self) -> io::Result<()> {
            self.ours = $ours;
            self.inner.$method()
        })+
    };
}

impl RecordDecorator for Escaped<'_> {
    pass_on! {
        reset: false,
        start_whitespace: true,
        start_msg: false,
        start_timestamp: false,
        start_level: false,
        start_comma: false,
        start_key: false,
        start_value: false,
        start_location: false,
        start_separator: false,
    }
}
