//! A record as a line: pure formatting.

use std::collections::HashSet;
use std::fmt::{self, Write};

use serde::ser::{SerializeMap, Serializer as _};
use serde_json::Value;
use slog::{KV, Key, OwnedKVList, Record, Serializer};

use crate::clock::Timestamp;
use crate::logging::escape::{escape, quote};

const TIME: &str = "ts";
const LEVEL: &str = "level";
const MESSAGE: &str = "msg";
pub(super) const CUT: &str = "cut";

/// A record, read once for both files.
pub(super) struct RecordLine {
    time: Timestamp,
    level: slog::Level,
    message: String,
    // The record's own pairs first, then the pairs of its loggers, from the outermost to the nearest.
    pairs: Vec<(String, Value)>,
}

impl RecordLine {
    /// Reads a record; `loggers` are the values of its loggers, the nearest first.
    pub(super) fn read(time: Timestamp, record: &Record<'_>, loggers: &[&OwnedKVList]) -> Self {
        let mut own = Pairs::default();
        own.take(record, &record.kv());
        // slog hands out each list from its last pair to its first.
        own.0.reverse();
        let mut context = Pairs::default();
        for values in loggers {
            context.take(record, values);
        }
        let mut names: HashSet<String> = [TIME, LEVEL, MESSAGE, CUT].map(String::from).into();
        own.rename(&mut names);
        // The nearest logger's value gets the plain name, regardless of its place in the line.
        context.rename(&mut names);
        context.0.reverse();
        own.0.append(&mut context.0);
        Self { time, level: record.level(), message: shown(record.msg()), pairs: own.0 }
    }

    /// The form for people: a single line for any record.
    pub(super) fn readable(&self) -> String {
        let mut line = format!("{} {:<8} {}", self.time, self.level.as_str(), escape(&self.message));
        for (key, value) in &self.pairs {
            line.push(' ');
            line.push_str(&quote(key));
            line.push('=');
            match value {
                Value::String(text) => line.push_str(&quote(text)),
                other => line.push_str(&escape(&other.to_string())),
            }
        }
        line.push('\n');
        line
    }

    /// The form for programs: a JSON object that loses nothing.
    pub(super) fn json(&self) -> String {
        let mut line = Vec::with_capacity(128 + self.message.len());
        // Neither texts nor JSON values can fail to be written to memory.
        let _written = self.write_json(&mut line);
        line.push(b'\n');
        String::from_utf8_lossy(&line).into_owned()
    }

    fn write_json(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        let mut serializer = serde_json::Serializer::new(line);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(TIME, &self.time)?;
        map.serialize_entry(LEVEL, self.level.as_str())?;
        map.serialize_entry(MESSAGE, &self.message)?;
        for (key, value) in &self.pairs {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

fn shown(text: &dyn fmt::Display) -> String {
    let mut shown = String::new();
    // `to_string` would panic when the text's `Display` returns an error.
    if write!(shown, "{text}").is_err() {
        shown.push_str("<cannot be shown>");
    }
    shown
}

#[derive(Default)]
struct Pairs(Vec<(String, Value)>);

impl Pairs {
    fn take(&mut self, record: &Record<'_>, values: &dyn KV) {
        if let Err(error) = values.serialize(record, self) {
            self.0.push(("log_error".into(), shown(&error).into()));
        }
    }

    fn put(&mut self, key: impl AsRef<str>, value: impl Into<Value>) -> slog::Result {
        self.0.push((key.as_ref().to_owned(), value.into()));
        Ok(())
    }

    /// A name that is taken gets a number, because a JSON object must not hold a name twice and no value may be lost.
    fn rename(&mut self, names: &mut HashSet<String>) {
        for (key, _) in &mut self.0 {
            let mut number = 2;
            let mut name = key.clone();
            while !names.insert(name.clone()) {
                name = format!("{key}#{number}");
                number += 1;
            }
            *key = name;
        }
    }
}

macro_rules! emit {
    ($($method:ident: $type:ty,)+) => {
        $(fn $method(&mut self, key: Key, value: $type) -> slog::Result {
            self.put(key, value)
        })+
    };
}

impl Serializer for Pairs {
    emit! {
        emit_usize: usize, emit_isize: isize, emit_u8: u8, emit_i8: i8, emit_u16: u16, emit_i16: i16, emit_u32: u32,
        emit_i32: i32, emit_u64: u64, emit_i64: i64, emit_bool: bool, emit_str: &str,
    }

    fn emit_f64(&mut self, key: Key, value: f64) -> slog::Result {
        if value.is_finite() { self.put(key, value) } else { self.put(key, value.to_string()) }
    }

    fn emit_f32(&mut self, key: Key, value: f32) -> slog::Result {
        // Converted through its text, so that 0.1 stays 0.1 instead of 0.10000000149011612.
        self.emit_f64(key, value.to_string().parse().unwrap_or_else(|_| f64::from(value)))
    }

    fn emit_char(&mut self, key: Key, value: char) -> slog::Result {
        self.put(key, value.to_string())
    }

    fn emit_unit(&mut self, key: Key) -> slog::Result {
        self.put(key, Value::Null)
    }

    fn emit_none(&mut self, key: Key) -> slog::Result {
        self.put(key, Value::Null)
    }

    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.put(key, shown(value))
    }

    fn emit_serde(&mut self, key: Key, value: &dyn slog::SerdeValue) -> slog::Result {
        let value = serde_json::to_value(value.as_serde());
        self.put(key, value.unwrap_or_else(|error| Value::String(format!("<cannot be shown: {error}>"))))
    }
}
