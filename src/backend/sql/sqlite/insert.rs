//! Pushed tasks.

use std::borrow::Cow;
use std::fmt::Write;

use diesel::sql_types::{BigInt, Text};
use diesel::{OptionalExtension, RunQueryDsl};

use super::commit::Batch;
use super::errors::Abort;
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::statement::{Value, bind, chunks, execute_sized, sized_statements, statements};
use crate::backend::sql::text::{EMPTY_ID, ExtraTexts, NEXT, retry_text};
use crate::backend::{Commit, InsertGroup, Inserted, Insertion};
use crate::clock::micros;
use crate::task::{TaskSpec, TaskState};

statements! {
    /// The highest place in push order that was ever given out.
    LastSeq -> (BigInt,): "SELECT max(coalesce((SELECT max(seq) FROM task_queue), 0),
        coalesce((SELECT last FROM task_sequence WHERE name = 'task_queue'), 0))";
    StateOf -> (Text,): "SELECT state FROM task_queue WHERE task_id = ?1";
    /// A task with everything that a task can have.
    InsertOne -> (): "INSERT INTO task_queue (state, node, claim_token, started_at, crash_count, updated_at,
        seq, task_id, queue, type, params, priority, run_at, max_attempts, timeout, retry, created_at,
        unique_key, unique_rule, unique_until, tags, meta, expires_at, parent_id)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
        ?22, ?23, ?24)";
}

sized_statements! {
    /// Tasks without extras. A known task id is not inserted; the number of rows tells.
    InsertPlain: |rows: usize| {
        let mut sql = String::from("INSERT OR IGNORE INTO task_queue (state, node, claim_token, started_at,
            crash_count, updated_at, seq, task_id, queue, type, params, priority, run_at, max_attempts, timeout,
            retry, created_at) VALUES ");
        for row in 0..rows {
            let (comma, first) = (if row > 0 { "," } else { "" }, row * 11 + 7);
            write!(sql, "{comma}(?1,?2,?3,?4,?5,?6").expect("writing to a string does not fail");
            for column in first..first + 11 {
                write!(sql, ",?{column}").expect("writing to a string does not fail");
            }
            sql.push(')');
        }
        sql
    };
}

/// Rows that one statement can write, because they begin in the same state.
#[derive(Default)]
struct Plain<'a> {
    claimed: Vec<(i64, &'a TaskSpec)>,
    pending: Vec<(i64, &'a TaskSpec)>,
    scheduled: Vec<(i64, &'a TaskSpec)>,
}

impl<'a> Batch<'a> {
    pub(super) fn insert(&mut self) -> Result<(), Abort> {
        let commit = self.commit;
        if commit.insert.is_empty() {
            return Ok(());
        }
        let (mut last,) = bind::<LastSeq>(&[]).get_result::<(i64,)>(self.conn)?;
        let mut plain = Plain::default();
        for group in &commit.insert {
            let fast = !self.careful && group.tasks.iter().all(|task| task.spec.extras.is_none());
            if fast {
                self.gather(group, &mut last, &mut plain);
            } else {
                self.insert_group(group, &mut last)?;
            }
        }
        self.insert_plain(&plain.claimed, TaskState::Running)?;
        self.insert_plain(&plain.pending, TaskState::Pending)?;
        self.insert_plain(&plain.scheduled, TaskState::Scheduled)
    }

    /// Numbers the tasks of a group that nothing is to be looked up for.
    fn gather(&mut self, group: &'a InsertGroup, last: &mut i64, plain: &mut Plain<'a>) {
        for task in &group.tasks {
            *last += 1;
            let rows = match task.state {
                _ if task.claim => &mut plain.claimed,
                TaskState::Scheduled => &mut plain.scheduled,
                _ => &mut plain.pending,
            };
            rows.push((*last, &task.spec));
            self.receipt.inserted.push(Inserted::New { seq: *last });
        }
    }

    fn insert_plain(&mut self, rows: &[(i64, &TaskSpec)], state: TaskState) -> Result<(), Abort> {
        for rows in chunks(rows) {
            let mut ids = [EMPTY_ID; 64];
            let retries: Vec<Cow<'_, str>> = rows.iter().map(|(_, spec)| retry_text(&spec.retry)).collect();
            let mut values = Vec::with_capacity(6 + 11 * rows.len());
            values.extend(begin(self.commit, &self.node, state));
            for (((seq, spec), id), retry) in rows.iter().zip(&mut ids).zip(&retries) {
                values.push(Value::Int(*seq));
                values.extend(columns(spec, spec.task_id.as_uuid().as_hyphenated().encode_lower(id), retry));
            }
            if execute_sized!(InsertPlain, rows.len(), &values, self.conn)? != rows.len() {
                return Err(Abort::Surprise);
            }
        }
        Ok(())
    }

    /// Stores a group of which a task has extras, with a look at each before it is written.
    fn insert_group(&mut self, group: &InsertGroup, last: &mut i64) -> Result<(), Abort> {
        if let Some(refused) = self.refusal(group)? {
            self.receipt.inserted.extend(refused);
            return Ok(());
        }
        for task in &group.tasks {
            let answer = self.insert_one(task, last)?;
            self.receipt.inserted.push(answer);
        }
        Ok(())
    }

    fn insert_one(&mut self, task: &Insertion, last: &mut i64) -> Result<Inserted, Abort> {
        if let Some(state) = self.known(&task.spec)? {
            return Ok(Inserted::Duplicate { task_id: task.spec.task_id, state });
        }
        let parent = match self.conflict(task)? {
            super::unique::Conflict::Answered(answer) => return Ok(answer),
            super::unique::Conflict::Follow(parent) => Some(parent),
            super::unique::Conflict::None => None,
        };
        let state = match task.claim {
            _ if parent.is_some() => TaskState::Waiting,
            true => TaskState::Running,
            false => task.state,
        };
        *last += 1;
        self.insert_row(*last, &task.spec, state, parent.as_deref())?;
        Ok(Inserted::New { seq: *last })
    }

    /// The state of a task that is stored already.
    pub(super) fn known(&mut self, spec: &TaskSpec) -> Result<Option<TaskState>, Abort> {
        let mut id = EMPTY_ID;
        let values = [Value::Text(spec.task_id.as_uuid().as_hyphenated().encode_lower(&mut id))];
        let state = bind::<StateOf>(&values).get_result::<(StoredText,)>(self.conn).optional()?;
        Ok(state.map(|(state,)| shown_state(&state)))
    }

    fn insert_row(&mut self, seq: i64, spec: &TaskSpec, state: TaskState, parent: Option<&str>) -> Result<(), Abort> {
        let extras = spec.extras();
        let texts = ExtraTexts::new(extras, spec.created_at);
        let suffix = if parent.is_some() { NEXT } else { "" };
        let key = extras.unique.as_ref().map(|unique| format!("{}{suffix}", unique.key));
        let retry = retry_text(&spec.retry);
        let mut id = EMPTY_ID;
        let mut values = Vec::with_capacity(24);
        values.extend(begin(self.commit, &self.node, state));
        values.push(Value::Int(seq));
        values.extend(columns(spec, spec.task_id.as_uuid().as_hyphenated().encode_lower(&mut id), &retry));
        values.extend([
            Value::MaybeText(key.as_deref()),
            Value::MaybeText(texts.unique_rule.as_deref()),
            Value::MaybeInt(texts.unique_until),
            Value::MaybeText(texts.tags.as_deref()),
            Value::MaybeText(texts.meta.as_deref()),
            Value::MaybeInt(texts.expires_at),
            Value::MaybeText(parent),
        ]);
        bind::<InsertOne>(&values).execute(self.conn)?;
        Ok(())
    }
}

/// The first six columns: what rows that begin in `state` have in common.
fn begin<'v>(commit: &Commit, node: &'v str, state: TaskState) -> [Value<'v>; 6] {
    let claimed = state == TaskState::Running;
    let now = commit.now.as_micros();
    [
        Value::Text(state.as_str()),
        Value::MaybeText(claimed.then_some(node)),
        Value::MaybeInt(claimed.then(|| commit.token.as_i64())),
        Value::MaybeInt(claimed.then_some(now)),
        Value::Int(claimed.into()),
        Value::Int(now),
    ]
}

/// The columns from `task_id` to `created_at`.
fn columns<'v>(spec: &'v TaskSpec, id: &'v str, retry: &'v str) -> [Value<'v>; 10] {
    [
        Value::Text(id),
        Value::Text(&spec.queue),
        Value::Text(&spec.kind),
        Value::Text(&spec.params),
        Value::Int(spec.priority.into()),
        Value::Int(spec.run_at.as_micros()),
        Value::Int(spec.max_attempts.into()),
        Value::MaybeInt(spec.timeout.map(micros)),
        Value::Text(retry),
        Value::Int(spec.created_at.as_micros()),
    ]
}
