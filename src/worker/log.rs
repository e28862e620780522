//! tmp
use std::path::Path; use std::sync::Arc; use crate::*; use slog::Logger;
pub(crate) struct TaskLogs; #[derive(Default)] pub(crate) struct TaskLogOptions { pub(crate) max_bytes: u64 }
pub(crate) struct AttemptLog;
impl TaskLogs { pub(crate) fn new(_: &Path, _: TaskLogOptions, _: Clock, _: Logger) -> Self { Self }
 pub(crate) fn attempt(&self, _: TaskId, _: u32) -> AttemptLog { AttemptLog } pub(crate) fn remove(&self, _: &[TaskId]) {} }
impl AttemptLog { pub(crate) fn flush(&self) {} }
pub(crate) fn both<T: slog::SendSyncRefUnwindSafeKV + 'static>(base: &Logger, _: Arc<AttemptLog>, values: slog::OwnedKV<T>) -> Logger { base.new(values) }
