//! Inserts pushed tasks.

use diesel::sql_types::Text;

use super::commit::Batch;
use super::unique::Conflict;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::statement::{Value, statements};
use crate::backend::sql::text::{EMPTY_ID, ExtraTexts, followed_key, held_key, retry_text};
use crate::backend::{Commit, InsertGroup, Inserted, Insertion};
use crate::clock::micros;
use crate::task::{TaskSpec, TaskState};

statements! {
    /// Reads without a lock. A transaction of the application is REPEATABLE READ by default, and there MySQL would lock
    /// the gap where an unknown id belongs. Ids grow, so this gap is the end of the table, and all other pushes would
    /// wait.
    StateOf -> (Text,): "SELECT state FROM task_queue WHERE task_id = ?1";
    /// A task with all possible columns, at a `seq` that the program sets.
    InsertAt -> (): "INSERT INTO task_queue (state, node, claim_token, started_at, crash_count, updated_at,
        task_id, queue, type, params, priority, run_at, max_attempts, timeout, retry, created_at,
        unique_key, unique_rule, unique_until, tags, meta, expires_at, limit_key, parent_id, schedule_id,
        nominal_at, seq)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
        ?22, ?23, ?24, ?25, ?26, ?27)";
    /// The same, at a `seq` that storage sets.
    InsertNext -> (): "INSERT INTO task_queue (state, node, claim_token, started_at, crash_count, updated_at,
        task_id, queue, type, params, priority, run_at, max_attempts, timeout, retry, created_at,
        unique_key, unique_rule, unique_until, tags, meta, expires_at, limit_key, parent_id, schedule_id,
        nominal_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
        ?22, ?23, ?24, ?25, ?26)";
}

/// How many times a push looks at a key that concurrent transactions keep taking and releasing.
const LOOKS: usize = 4;

/// The outcome of storing a task whose key was in no visible row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::sql) enum Kept<T> {
    Stored(T),
    /// A row has its key, or its id, by now.
    Taken,
    /// A concurrent transaction, not yet ended, stores the same key.
    Busy,
    /// The same as `Busy`, but finding it out has undone the transaction.
    Undone,
}

impl<T> Kept<T> {
    fn map<U>(self, stored: impl FnOnce(T) -> Result<U, Abort>) -> Result<Kept<U>, Abort> {
        Ok(match self {
            Self::Stored(it) => Kept::Stored(stored(it)?),
            Self::Taken => Kept::Taken,
            Self::Busy => Kept::Busy,
            Self::Undone => Kept::Undone,
        })
    }
}

/// A task without extras, to be stored as `running`, `pending` or `scheduled`.
#[derive(Clone, Copy)]
pub(in crate::backend::sql) struct NewRow<'a> {
    pub(in crate::backend::sql) spec: &'a TaskSpec,
    pub(in crate::backend::sql) state: TaskState,
}

impl<'a, C: Conn> Batch<'a, C> {
    pub(super) fn insert(&mut self) -> Result<(), Abort> {
        let commit = self.commit;
        let mut plain: Vec<(usize, NewRow<'_>)> = Vec::new();
        for (index, group) in commit.insert.iter().enumerate() {
            if self.aside.groups.contains(&index) {
                self.receipt.inserted.extend(group.tasks.iter().map(|_| Inserted::Busy));
                continue;
            }
            let fast = !self.careful && group.tasks.iter().all(|task| task.spec.extras.is_none());
            if fast {
                self.gather(group, &mut plain);
            } else {
                // Earlier pushes are stored first, to keep push order.
                self.insert_plain(&mut plain)?;
                self.insert_group(index, group)?;
            }
        }
        self.insert_plain(&mut plain)
    }

    fn insert_plain(&mut self, plain: &mut Vec<(usize, NewRow<'_>)>) -> Result<(), Abort> {
        if plain.is_empty() {
            return Ok(());
        }
        // Sorted by state, because a statement writes rows of a single state. The sort is stable: within a state, push
        // order stays.
        plain.sort_by_key(|(_, row)| row.state);
        let rows: Vec<NewRow<'_>> = plain.iter().map(|(_, row)| *row).collect();
        let mut seqs = C::insert(self, &rows)?.into_iter();
        for (place, _) in plain.drain(..).filter(|(_, row)| row.state == TaskState::Running) {
            let Some(seq) = seqs.next() else { return Err(Abort::Surprise) };
            self.receipt.inserted[place] = Inserted::Claimed { seq };
        }
        Ok(())
    }

    /// Collects the tasks of a group that needs no lookups.
    fn gather(&mut self, group: &'a InsertGroup, plain: &mut Vec<(usize, NewRow<'a>)>) {
        for task in &group.tasks {
            let state = if task.claim { TaskState::Running } else { task.state };
            plain.push((self.receipt.inserted.len(), NewRow { spec: &task.spec, state }));
            // The answers for running tasks are overwritten when their `seq` is known.
            self.receipt.inserted.push(Inserted::New { state });
        }
    }

    /// Stores a group in which a task has extras. Each task is checked before it is written, except in a `blind` batch.
    fn insert_group(&mut self, index: usize, group: &InsertGroup) -> Result<(), Abort> {
        if self.blind {
            for task in &group.tasks {
                if self.is_taken(&task.spec)? {
                    return Err(Abort::Surprise);
                }
                let answer = self.insert_row(&task.spec, task.state, None)?;
                self.receipt.inserted.push(answer);
            }
            return Ok(());
        }
        if let Some(refused) = self.refusal(group)? {
            self.receipt.inserted.extend(refused);
            return Ok(());
        }
        for task in &group.tasks {
            let answer = self.insert_one(index, task)?;
            let undone = match answer {
                Inserted::Busy => true,
                // A task came to hold the key after the group was checked, or after an earlier task of the group was
                // stored.
                Inserted::Refused { .. } => !self.patient,
                _ => false,
            };
            if undone && group.tasks.len() > 1 {
                return Err(Abort::Aside(index));
            }
            self.receipt.inserted.push(answer);
        }
        Ok(())
    }

    fn insert_one(&mut self, index: usize, task: &Insertion) -> Result<Inserted, Abort> {
        for _ in 0..LOOKS {
            if let Some(state) = self.known(&task.spec)? {
                return Ok(Inserted::Duplicate { task_id: task.spec.task_id, state });
            }
            let (parent, fresh) = match self.conflict(task)? {
                Conflict::Answered(answer) => return Ok(answer),
                Conflict::Busy => return Ok(Inserted::Busy),
                Conflict::Follow(parent) => (Some(parent), false),
                Conflict::None { fresh } => (None, fresh && !self.patient),
            };
            let state = match task.claim {
                _ if parent.is_some() => TaskState::Waiting,
                true => TaskState::Running,
                false => task.state,
            };
            if !fresh {
                return self.insert_row(&task.spec, state, parent.as_deref());
            }
            if self.aside.fresh {
                return Ok(Inserted::Busy);
            }
            match self.insert_fresh(&task.spec, state)? {
                Kept::Stored(inserted) => return Ok(inserted),
                Kept::Taken => {}
                Kept::Busy => return Ok(Inserted::Busy),
                Kept::Undone => return Err(Abort::Aside(index)),
            }
        }
        // The key changes hands faster than it can be looked up.
        Ok(Inserted::Busy)
    }

    /// The state of the task, if it is already stored.
    pub(super) fn known(&mut self, spec: &TaskSpec) -> Result<Option<TaskState>, Abort> {
        let mut id = EMPTY_ID;
        let values = [Value::Text(spec.task_id.as_uuid().as_hyphenated().encode_lower(&mut id))];
        let state = self.conn.first::<StateOf, (StoredText,)>(&values)?;
        Ok(state.map(|(state,)| shown_state(&state)))
    }

    pub(super) fn insert_row(
        &mut self,
        spec: &TaskSpec,
        state: TaskState,
        parent: Option<&str>,
    ) -> Result<Inserted, Abort> {
        let given = self.with_row(spec, state, parent, |conn, given, values| {
            match given {
                Some(_) => conn.run::<InsertAt>(values)?,
                None => conn.run::<InsertNext>(values)?,
            };
            Ok(given)
        })?;
        self.stored(state, given)
    }

    /// Stores a task whose key was in no visible row.
    fn insert_fresh(&mut self, spec: &TaskSpec, state: TaskState) -> Result<Kept<Inserted>, Abort> {
        let key = spec.extras().unique.as_ref().map(|unique| held_key(&unique.key)).unwrap_or_default();
        let kept = self.with_row(spec, state, None, |conn, given, values| {
            Ok(match given {
                Some(_) => {
                    conn.run::<InsertAt>(values)?;
                    Kept::Stored(given)
                }
                None => conn.insert_fresh(&key, values)?.map(|()| Ok(None))?,
            })
        })?;
        kept.map(|given| self.stored(state, given))
    }

    /// Builds the values of a row. If the program sets `seq`, it comes last.
    fn with_row<T>(
        &mut self,
        spec: &TaskSpec,
        state: TaskState,
        parent: Option<&str>,
        write: impl FnOnce(&mut C, Option<i64>, &[Value<'_>]) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        let extras = spec.extras();
        let texts = ExtraTexts::new(extras, spec.created_at);
        let key = extras.unique.as_ref().map(|unique| match parent {
            Some(_) => followed_key(&unique.key).into(),
            None => held_key(&unique.key),
        });
        let retry = retry_text(&spec.retry);
        let mut id = EMPTY_ID;
        let schedule_id = extras.firing.map(|firing| firing.schedule_id.to_string());
        let mut values = Vec::with_capacity(27);
        values.extend(begin(self.commit, &self.node, state));
        values.extend(columns(spec, spec.task_id.as_uuid().as_hyphenated().encode_lower(&mut id), &retry));
        values.extend([
            Value::MaybeText(key.as_deref()),
            Value::MaybeText(texts.unique_rule.as_deref()),
            Value::MaybeInt(texts.unique_until),
            Value::MaybeText(texts.tags.as_deref()),
            Value::MaybeText(texts.meta.as_deref()),
            Value::MaybeInt(texts.expires_at),
            Value::MaybeText(extras.limit_key.as_deref()),
            Value::MaybeText(parent),
            Value::MaybeText(schedule_id.as_deref()),
            Value::MaybeInt(extras.firing.map(|firing| firing.nominal_at.as_micros())),
        ]);
        let given = self.conn.next_seq()?;
        values.extend(given.map(Value::Int));
        write(self.conn, given, &values)
    }

    fn stored(&mut self, state: TaskState, given: Option<i64>) -> Result<Inserted, Abort> {
        if state != TaskState::Running {
            return Ok(Inserted::New { state });
        }
        Ok(Inserted::Claimed { seq: given.map_or_else(|| self.conn.last_seq(), Ok)? })
    }
}

/// The first six columns, which all rows that begin in `state` share.
pub(in crate::backend::sql) fn begin<'v>(commit: &Commit, node: &'v str, state: TaskState) -> [Value<'v>; 6] {
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
pub(in crate::backend::sql) fn columns<'v>(spec: &'v TaskSpec, id: &'v str, retry: &'v str) -> [Value<'v>; 10] {
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
