//! Writes decisions about schedules.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Nullable, Text};

use super::int;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::statement::{Value, statements};
use crate::backend::sql::work::commit::Batch;
use crate::backend::sql::work::edit;
use crate::backend::{Chain, Commit, Edit, EditAction, Fired, Run, Selection, SkippedTime, Turn, replacing};
use crate::clock::Timestamp;
use crate::schedule::{FiringCause, FiringStatus};
use crate::task::{TaskId, TaskState};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
macro_rules! has_task {
    () => {
        "SELECT seq FROM task_queue INDEXED BY task_queue_firing
        WHERE schedule_id IS NOT NULL AND schedule_id = ?1 AND nominal_at = ?2
        UNION ALL SELECT nominal_at FROM schedule_run WHERE schedule_id = ?1 AND nominal_at = ?2"
    };
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
macro_rules! follower_of {
    () => {
        "SELECT seq FROM task_queue INDEXED BY task_queue_waiting WHERE state = 'waiting' AND parent_id = ?1 LIMIT 1"
    };
}

statements! {
    /// The lock is kept until the commit: of all nodes that decide about a schedule, only the lock holder writes. The
    /// other nodes do not wait, because the lock holder may be frozen and they have other schedules to fire.
    TakeTurn -> (BigInt, Nullable<BigInt>): "SELECT turn, forgotten_to FROM scheduler_task WHERE schedule_id = ?1 {skip}";
    /// A number that was edited to the largest possible value cannot grow: `turn` restarts at 1, and `run_count` stays.
    Move -> (): "UPDATE scheduler_task SET turn = CASE WHEN turn < 9223372036854775807 THEN turn + 1 ELSE 1 END, status = ?2, status_reason = ?3, paused_until = ?4,
        cursor_at = ?5, next_run_at = ?6, run_count = CASE WHEN run_count > 9223372036854775807 - ?7 THEN run_count
        ELSE run_count + ?7 END, last_run_at = coalesce(?8, last_run_at)
        WHERE schedule_id = ?1";
    StatusOf -> (Text,): "SELECT status FROM schedule_firing WHERE schedule_id = ?1 AND nominal_at = ?2";
    /// A stored task, or a task that has been deleted since.
    HasTask -> (BigInt,): {
        sqlite has_task!();
        postgres has_task!();
        mysql "SELECT seq FROM task_queue WHERE schedule_id = ?1 AND nominal_at = ?2
            UNION ALL SELECT nominal_at FROM schedule_run WHERE schedule_id = ?1 AND nominal_at = ?2";
    };
    StateOf -> (Text,): "SELECT state FROM task_queue WHERE task_id = ?1";
    /// No task can start to wait for a task of this schedule meanwhile, because that needs the lock on the schedule's
    /// row.
    FollowerOf -> (BigInt,): {
        sqlite follower_of!();
        postgres follower_of!();
        mysql "SELECT seq FROM task_queue WHERE waits_for = ?1 LIMIT 1";
    };
    FreeTask -> (Text,): "SELECT state FROM task_queue WHERE task_id = ?1 {skip}";
    /// The change mark, which cancelling tasks locks as well.
    FreeMark -> (BigInt,): {
        sqlite "SELECT 1";
        postgres "SELECT version FROM change_mark WHERE name = 'edits' {skip}";
        mysql "SELECT version FROM change_mark WHERE name = 'edits' {skip}";
    };
    Note -> (): "INSERT OR IGNORE INTO schedule_firing (schedule_id, nominal_at, status, cause, times, reason, task_id,
        node, fired_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    NoteAgain -> (): "UPDATE schedule_firing SET status = ?3, cause = ?4, times = ?5, reason = ?6, task_id = ?7, node = ?8,
        fired_at = ?9 WHERE schedule_id = ?1 AND nominal_at = ?2";
    /// The row of a live task stays, because it tells who asked for the task. The inner query has an alias because
    /// MySQL cannot read a table that the same statement deletes from.
    Trim -> (): "DELETE FROM schedule_firing WHERE schedule_id = ?1 AND nominal_at < (SELECT nominal_at FROM (
        SELECT nominal_at FROM schedule_firing WHERE schedule_id = ?1 ORDER BY nominal_at DESC LIMIT 1 OFFSET ?2) AS kept)
        AND NOT EXISTS (SELECT 1 FROM task_queue AS t WHERE t.task_id = schedule_firing.task_id
        AND t.state IN ('waiting', 'scheduled', 'pending', 'running', 'retrying'))";
    FirstForgotten -> (BigInt,): "SELECT nominal_at FROM schedule_run WHERE schedule_id = ?1
        ORDER BY nominal_at DESC LIMIT 1 OFFSET ?2";
    ForgetRuns -> (): "DELETE FROM schedule_run WHERE schedule_id = ?1 AND nominal_at <= ?2";
    KnowNoMore -> (): "UPDATE scheduler_task SET forgotten_to = ?2
        WHERE schedule_id = ?1 AND (forgotten_to IS NULL OR forgotten_to < ?2)";
}

/// History is trimmed only every so many turns, because trimming costs a statement.
const TRIM_EACH: i64 = 16;

pub(in crate::backend::sql) fn fire<C: Conn>(conn: &mut C, turns: &[Turn]) -> Result<Vec<Fired>, Abort> {
    let writer = |turn: &Turn| Writer { conn, id: turn.schedule_id.to_string(), turn, forgotten_to: None }.write();
    turns.iter().map(writer).collect()
}

/// A turn that is being written.
struct Writer<'a, C> {
    conn: &'a mut C,
    turn: &'a Turn,
    id: String,
    /// Times up to this time may have run already.
    forgotten_to: Option<i64>,
}

impl<C: Conn> Writer<'_, C> {
    fn write(mut self) -> Result<Fired, Abort> {
        let turn = self.turn;
        let stored = self.conn.first::<TakeTurn, (i64, Option<i64>)>(&[Value::Text(&self.id)])?;
        let Some((_, forgotten_to)) = stored.filter(|(stored, _)| *stored == turn.turn) else {
            return Ok(Fired::Lost);
        };
        self.forgotten_to = forgotten_to;
        if !self.lock()? {
            return Ok(Fired::Lost);
        }
        let ending = self.cancel()?;
        let mut made = Vec::with_capacity(turn.runs.len());
        let mut chain = Chain::default();
        for (run, follows) in turn.runs.iter().zip(replacing(turn, ending)) {
            let state = self.make(run, chain.resolve(follows), &mut chain)?;
            made.push(state);
        }
        for passed in &turn.passed {
            self.pass_by(passed)?;
        }
        self.move_on(&made)?;
        self.trim()?;
        Ok(Fired::Done(made))
    }

    fn trim(&mut self) -> Result<(), Abort> {
        let (turn, id) = (self.turn, Value::Text(&self.id));
        if turn.turn % TRIM_EACH == 0 || turn.passed.len() > 1 {
            let keep = Value::Int(i64::from(turn.keep_firings).saturating_sub(1));
            self.conn.run::<Trim>(&[id, keep])?;
        }
        // This search reads all kept rows, so it runs only after many turns.
        if turn.turn % (i64::from(turn.keep_runs) / TRIM_EACH + 1) == 0 {
            let first = self.conn.first::<FirstForgotten, (i64,)>(&[id, Value::Int(turn.keep_runs.into())])?;
            if let Some((first,)) = first {
                self.conn.run::<ForgetRuns>(&[id, Value::Int(first)])?;
                self.conn.run::<KnowNoMore>(&[id, Value::Int(first)])?;
            }
        }
        Ok(())
    }

    /// Locks all rows that the turn changes apart from its own, before anything is written. If a task that the turn
    /// waits for ends at this moment, either its end sees the new follower, or the turn sees that it has ended. False
    /// when a concurrent transaction has locked any of these rows. That transaction may be frozen, or belong to a slow
    /// application, and the other turns of this transaction cannot wait so long.
    fn lock(&mut self) -> Result<bool, Abort> {
        let turn = self.turn;
        let own: HashSet<TaskId> = turn.runs.iter().map(|run| run.spec.task_id).collect();
        let waited_for = turn.runs.iter().filter_map(|run| run.follows).filter(|task_id| !own.contains(task_id));
        for task_id in turn.cancel.iter().copied().chain(waited_for) {
            let id = task_id.to_string();
            let id = [Value::Text(&id)];
            let locked = self.conn.first::<FreeTask, (StoredText,)>(&id)?.is_some();
            if !locked && self.conn.first::<StateOf, (StoredText,)>(&id)?.is_some() {
                return Ok(false);
            }
        }
        Ok(turn.cancel.is_empty() || self.conn.first::<FreeMark, (i64,)>(&[])?.is_some())
    }

    fn move_on(&mut self, made: &[Option<TaskState>]) -> Result<(), Abort> {
        let turn = self.turn;
        let by_clock = turn.runs.iter().zip(made).filter(|(run, _)| run.cause == FiringCause::Schedule);
        let counted = by_clock.filter(|(_, made)| made.is_some()).count();
        let ran = made.iter().any(Option::is_some).then_some(turn.now.as_micros());
        let values = [
            Value::Text(&self.id),
            Value::Text(turn.status.as_str()),
            Value::MaybeText(turn.reason.as_deref()),
            Value::MaybeInt(turn.paused_until.map(Timestamp::as_micros)),
            Value::Int(turn.cursor.as_micros()),
            Value::MaybeInt(turn.next_run_at.map(Timestamp::as_micros)),
            Value::Int(int(counted as u64)),
            Value::MaybeInt(ran),
        ];
        self.conn.run::<Move>(&values)?;
        Ok(())
    }

    /// Cancels tasks. Returns the cancelled tasks that still run and that no task waits for. They are locked: until
    /// this turn is written, none of them ends, and no waiting task starts.
    fn cancel(&mut self) -> Result<Vec<TaskId>, Abort> {
        let turn = self.turn;
        if turn.cancel.is_empty() {
            return Ok(Vec::new());
        }
        let action = EditAction::Cancel("a later run takes its place".into());
        let selection = Selection::Ids(turn.cancel.clone());
        let edit = Edit { selection, action, now: turn.now, limit: turn.cancel.len(), after: None };
        let running = edit::edit(self.conn, &edit)?.cancelling;
        self.conn.mark_change()?;
        let mut ending = Vec::with_capacity(running.len());
        for task_id in running {
            if self.conn.first::<FollowerOf, (i64,)>(&[Value::Text(&task_id.to_string())])?.is_none() {
                ending.push(task_id);
            }
        }
        Ok(ending)
    }

    /// Stores the task of a run, unless its nominal time already has a task.
    fn make(&mut self, run: &Run, follows: Option<TaskId>, chain: &mut Chain) -> Result<Option<TaskState>, Abort> {
        let Some(nominal_at) = run.spec.extras().firing.map(|firing| firing.nominal_at) else { return Ok(None) };
        let id = self.id.clone();
        let key = [Value::Text(&id), Value::Int(nominal_at.as_micros())];
        let noted = self.conn.first::<StatusOf, (StoredText,)>(&key)?;
        let ran = noted.as_ref().is_some_and(|(status,)| status.parse() == Ok(FiringStatus::Fired));
        let unknown = run.cause != FiringCause::Manual
            && self.forgotten_to.is_some_and(|forgotten| nominal_at.as_micros() <= forgotten);
        if ran || unknown || self.conn.first::<HasTask, (i64,)>(&key)?.is_some() {
            chain.leave_out(run.spec.task_id, follows);
            return Ok(None);
        }
        let parent = match follows {
            Some(parent) if self.is_live(parent)? => Some(parent.to_string()),
            _ => None,
        };
        let state = if parent.is_some() { TaskState::Waiting } else { TaskState::Pending };
        let commit = Commit::new(self.turn.node, self.turn.now);
        Batch::new(self.conn, &commit, true).insert_row(&run.spec, state, parent.as_deref())?;
        let task_id = run.spec.task_id.to_string();
        let note = [
            key[0],
            key[1],
            Value::Text(FiringStatus::Fired.as_str()),
            Value::Text(run.cause.as_str()),
            Value::Int(1),
            Value::MaybeText(None),
            Value::MaybeText(Some(&task_id)),
        ];
        self.note(note, noted.is_some())?;
        Ok(Some(state))
    }

    fn is_live(&mut self, task_id: TaskId) -> Result<bool, Abort> {
        let state = self.conn.first::<StateOf, (StoredText,)>(&[Value::Text(&task_id.to_string())])?;
        Ok(state.is_some_and(|(state,)| !shown_state(&state).is_terminal()))
    }

    fn pass_by(&mut self, passed: &SkippedTime) -> Result<(), Abort> {
        let id = self.id.clone();
        let note = [
            Value::Text(&id),
            Value::Int(passed.nominal_at.as_micros()),
            Value::Text(passed.status.as_str()),
            Value::Text(FiringCause::Schedule.as_str()),
            Value::Int(int(passed.times)),
            Value::MaybeText(Some(&passed.reason)),
            Value::MaybeText(None),
        ];
        self.note(note, false)
    }

    fn note(&mut self, values: [Value<'_>; 7], again: bool) -> Result<(), Abort> {
        let node = self.turn.node.to_string();
        let mut values = values.to_vec();
        values.extend([Value::Text(&node), Value::Int(self.turn.now.as_micros())]);
        if again {
            self.conn.run::<NoteAgain>(&values)?
        } else {
            self.conn.run::<Note>(&values)?
        };
        Ok(())
    }
}
