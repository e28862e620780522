//! tmp
pub(crate) mod keys {
    pub(crate) const TASK_ID: &str = "task_id";
    pub(crate) const TYPE: &str = "type";
    pub(crate) const TYPES: &str = "types";
    pub(crate) const QUEUES: &str = "queues";
    pub(crate) const ATTEMPT: &str = "attempt";
    pub(crate) const STATE: &str = "state";
    pub(crate) const ERROR: &str = "error";
    pub(crate) const COUNT: &str = "count";
    pub(crate) const NODE: &str = "node";
    pub(crate) const PART: &str = "part";
    pub(crate) const RESTARTS: &str = "restarts";
    pub(crate) const OPERATION: &str = "operation";
    pub(crate) const RUN_AT: &str = "run_at";
}
