//! Unique keys: which task holds a key, and the answer to a push whose key is already held.

use std::collections::BTreeSet;

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryResult, Queryable};

use super::commit::Batch;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::{StoredText, shown_state};
use crate::backend::sql::statement::{Value, statements};
use crate::backend::sql::text::{followed_key, held_key, key_followed, read_rule};
use crate::backend::{InsertGroup, Inserted, Insertion};
use crate::clock::Timestamp;
use crate::name::Name;
use crate::task::{TaskId, TaskSpec, TaskState, Unique, UniqueMode, UniqueScope, holds_key};

macro_rules! by_key {
    ($end:literal) => {
        concat!("SELECT seq, task_id, state, unique_rule, unique_until FROM task_queue WHERE unique_key = ?1 ", $end)
    };
}

macro_rules! waiting {
    ($columns:literal, $which:literal, $lock:literal) => {
        concat!("SELECT ", $columns, " FROM task_queue INDEXED BY task_queue_waiting WHERE ", $which, $lock)
    };
}

/// The SQL types of a [`Holder`].
type HolderTypes = (BigInt, Text, Text, Nullable<Text>, Nullable<BigInt>);
/// The SQL types of a waiting task: `seq`, queue, `run_at` and stored key.
type WaitingTypes = (BigInt, Text, BigInt, Nullable<Text>);

statements! {
    // For a transaction of the application, which waits for the lock. MySQL locks the row through its `seq`. Through
    // the key it would, at REPEATABLE READ, also lock the gap before that key. If there is no lesser key, all tasks
    // without a key belong into this gap. Their inserts would then wait, and an application's transaction may last
    // long.
    ByKeyLocked -> HolderTypes: {
        sqlite by_key!("");
        postgres by_key!("FOR UPDATE");
        mysql by_key!("AND seq = (SELECT seq FROM task_queue WHERE unique_key = ?1) FOR UPDATE");
    };
    ByKey -> HolderTypes: (by_key!(""));
    ByKeyIfFree -> HolderTypes: (by_key!("AND seq = ?2 {skip}"));
    Taken -> (BigInt,): "SELECT seq FROM task_queue WHERE unique_key = ?1";
    DropKey -> (): "UPDATE task_queue SET unique_key = NULL WHERE seq = ?1";
    Replace -> (): "UPDATE task_queue SET updated_at = CASE WHEN state = ?5 THEN updated_at ELSE ?6 END,
        params = ?2, priority = ?3, run_at = ?4, state = ?5 WHERE seq = ?1";
    AnyWaiting -> (BigInt,): "SELECT seq FROM task_queue INDEXED BY task_queue_waiting
        WHERE state = 'waiting' LIMIT 1";
    /// MySQL uses the column `waits_for` for this, because a search by state would lock all waiting tasks.
    Waiting -> WaitingTypes: {
        sqlite waiting!("seq, queue, run_at, unique_key", "state = 'waiting' AND parent_id = ?1", " {skip}");
        postgres waiting!("seq, queue, run_at, unique_key", "state = 'waiting' AND parent_id = ?1", " {skip}");
        mysql waiting!("seq, queue, run_at, unique_key", "waits_for = ?1", " {skip}");
    };
    WaitingLocked -> WaitingTypes: {
        sqlite waiting!("seq, queue, run_at, unique_key", "state = 'waiting' AND parent_id = ?1", " {lock}");
        postgres waiting!("seq, queue, run_at, unique_key", "state = 'waiting' AND parent_id = ?1", " {lock}");
        mysql waiting!("seq, queue, run_at, unique_key", "waits_for = ?1", " {lock}");
    };
    CountWaiting -> (BigInt,): {
        sqlite waiting!("count(*)", "state = 'waiting' AND parent_id = ?1", "");
        postgres waiting!("count(*)", "state = 'waiting' AND parent_id = ?1", "");
        mysql waiting!("count(*)", "waits_for = ?1", "");
    };
    Free -> (): "UPDATE task_queue SET state = ?2, unique_key = ?3, updated_at = ?4 WHERE seq = ?1";
}

/// The action to take for a push that has a unique key.
pub(super) enum Conflict {
    /// No task holds the key. `fresh` is true when no visible row has it.
    None { fresh: bool },
    /// The push is answered without being stored.
    Answered(Inserted),
    /// The push is stored as a task that waits for this task.
    Follow(String),
    /// A concurrent transaction, not yet ended, changes the task that has the key.
    Busy,
}

/// How to look for the task that has a key.
#[derive(Clone, Copy)]
pub(super) enum Look {
    /// Locks its row, and waits for the lock if needed.
    Wait,
    /// Locks its row only if no concurrent transaction has locked it.
    Try,
}

/// A task whose row has a key. The task may no longer hold that key.
#[derive(Queryable)]
struct Holder {
    seq: i64,
    task_id: StoredText,
    state: StoredText,
    rule: Option<StoredText>,
    until: Option<i64>,
}

impl Holder {
    /// The task with this stored key. Not locked.
    fn find<C: Conn>(conn: &mut C, stored: &str) -> QueryResult<Option<Self>> {
        conn.first::<ByKey, Self>(&[Value::Text(stored)])
    }

    /// Locks the same task. `None` when the task has a different key now, or when a concurrent transaction has locked
    /// it.
    fn lock<C: Conn>(&self, conn: &mut C, stored: &str) -> QueryResult<Option<Self>> {
        conn.first::<ByKeyIfFree, Self>(&[Value::Text(stored), Value::Int(self.seq)])
    }

    fn state(&self) -> TaskState {
        shown_state(&self.state)
    }

    fn task_id(&self) -> TaskId {
        self.task_id.parse().unwrap_or_else(|_| uuid::Uuid::nil().into())
    }

    fn holds(&self, now: Timestamp) -> bool {
        // An unreadable rule counts as the default rule, so that a key is never released by mistake.
        let usual = (UniqueScope::UntilDone, UniqueMode::ReturnExisting);
        let rule = self.rule.as_deref().and_then(read_rule).map_or(usual, |rule| (rule.scope, rule.mode));
        holds_key(rule, self.until.map(Timestamp::from_micros), self.state(), now)
    }
}

/// The holder of a key.
enum Found {
    /// A task holds it. The task is locked, except when `read` was set and no lock was needed.
    Held(Holder),
    /// No task holds it. If a row still had the key after its task had stopped holding it, that row has lost it.
    Free { fresh: bool },
    /// A concurrent transaction changes the task that has the key.
    Busy,
}

/// Finds and locks the current holder of the stored key `stored`. A task that no longer holds the key loses it. With
/// `read` and [`Look::Try`], a task that holds the key is returned without a lock.
fn holder<C: Conn>(conn: &mut C, stored: &str, now: Timestamp, read: bool, look: Look) -> QueryResult<Found> {
    let locked = match look {
        Look::Wait => match conn.first::<ByKeyLocked, Holder>(&[Value::Text(stored)])? {
            Some(holder) => holder,
            None => return Ok(Found::Free { fresh: true }),
        },
        Look::Try => {
            let Some(seen) = Holder::find(conn, stored)? else { return Ok(Found::Free { fresh: true }) };
            if read && seen.holds(now) {
                return Ok(Found::Held(seen));
            }
            match seen.lock(conn, stored)? {
                Some(holder) => holder,
                None => return Ok(Found::Busy),
            }
        }
    };
    if locked.holds(now) {
        return Ok(Found::Held(locked));
    }
    conn.run::<DropKey>(&[Value::Int(locked.seq)])?;
    Ok(Found::Free { fresh: false })
}

/// True when any task waits for a parent. An empty index answers this most of the time.
pub(super) fn any_waiting<C: Conn>(conn: &mut C) -> QueryResult<bool> {
    Ok(conn.first::<AnyWaiting, (i64,)>(&[])?.is_some())
}

/// Releases the tasks that wait for `parent`. Returns the new state and the queue of each.
///
/// # Errors
/// [`Abort::Busy`] when a concurrent transaction changes any of them.
pub(super) fn free_followers<C: Conn>(
    conn: &mut C,
    parent: &str,
    now: Timestamp,
    look: Look,
) -> Result<Vec<(TaskState, Name)>, Abort> {
    let waiting = lock_followers(conn, parent, look)?.ok_or(Abort::Busy)?;
    let mut freed = Vec::with_capacity(waiting.len());
    for (seq, queue, run_at, key) in waiting {
        let followed = key.as_deref().and_then(key_followed).map(held_key);
        let key = match &followed {
            Some(held) if pass_on(conn, held, parent, now)? => Some(&**held),
            Some(_) => None,
            None => key.as_deref(),
        };
        let later = Timestamp::from_micros(run_at) > now;
        let state = if later { TaskState::Scheduled } else { TaskState::Pending };
        let values =
            [Value::Int(seq), Value::Text(state.as_str()), Value::MaybeText(key), Value::Int(now.as_micros())];
        conn.run::<Free>(&values)?;
        freed.push((state, queue.into()));
    }
    Ok(freed)
}

type WaitingRow = (i64, StoredText, i64, Option<StoredText>);

/// Locks the tasks that wait for `parent`. `None` when a concurrent transaction has locked any of them.
pub(super) fn lock_followers<C: Conn>(
    conn: &mut C,
    parent: &str,
    look: Look,
) -> QueryResult<Option<Vec<WaitingRow>>> {
    let parent = [Value::Text(parent)];
    if matches!(look, Look::Wait) {
        return conn.load::<WaitingLocked, _>(&parent).map(Some);
    }
    let all = conn.first::<CountWaiting, (i64,)>(&parent)?.map_or(0, |(all,)| all);
    let waiting = if all > 0 { conn.load::<Waiting, _>(&parent)? } else { Vec::new() };
    Ok(usize::try_from(all).is_ok_and(|all| all <= waiting.len()).then_some(waiting))
}

/// The same, for reports that name the queues in which tasks became pending.
pub(super) fn free<C: Conn>(
    conn: &mut C,
    parent: &str,
    now: Timestamp,
    woken: &mut BTreeSet<Name>,
) -> Result<(), Abort> {
    let freed = free_followers(conn, parent, now, Look::Try)?;
    woken.extend(freed.into_iter().filter(|(state, _)| *state == TaskState::Pending).map(|(_, queue)| queue));
    Ok(())
}

/// Makes a stored key free for the task that waited for `parent`. False when a third task holds the key, or may soon
/// hold it.
fn pass_on<C: Conn>(conn: &mut C, stored: &str, parent: &str, now: Timestamp) -> QueryResult<bool> {
    match holder(conn, stored, now, false, Look::Try)? {
        // The parent may hold the key for the rest of its period: it passes the key on.
        Found::Held(holder) if *holder.task_id == *parent => {
            conn.run::<DropKey>(&[Value::Int(holder.seq)])?;
            Ok(true)
        }
        Found::Held(_) | Found::Busy => Ok(false),
        Found::Free { .. } => Ok(true),
    }
}

/// True when the task at `seq` may be revived with its key, because no other task holds the key.
pub(super) fn is_free_for<C: Conn>(conn: &mut C, seq: i64, key: Option<&str>, now: Timestamp) -> QueryResult<bool> {
    let Some(key) = key else { return Ok(true) };
    Ok(Holder::find(conn, &held_key(key))?.is_none_or(|holder| holder.seq == seq || !holder.holds(now)))
}

/// Takes `key` from its last holder, for the task at `seq`.
///
/// # Errors
/// [`Abort::Busy`] when a concurrent transaction changes the task that has the key.
pub(super) fn take<C: Conn>(conn: &mut C, seq: i64, key: Option<&str>, now: Timestamp) -> Result<(), Abort> {
    if let Some(stored) = key.map(held_key)
        && Holder::find(conn, &stored)?.is_some_and(|holder| holder.seq != seq)
        && matches!(holder(conn, &stored, now, false, Look::Try)?, Found::Busy)
    {
        return Err(Abort::Busy);
    }
    Ok(())
}

impl<C: Conn> Batch<'_, C> {
    /// True when any row has the key of this push, as far as a read without locks can see.
    pub(super) fn is_taken(&mut self, spec: &TaskSpec) -> Result<bool, Abort> {
        let Some(unique) = &spec.extras().unique else { return Ok(false) };
        Ok(self.conn.first::<Taken, (i64,)>(&[Value::Text(&held_key(&unique.key))])?.is_some())
    }

    pub(super) fn look(&self) -> Look {
        if self.patient { Look::Wait } else { Look::Try }
    }

    /// Applies the mode of the push's key.
    pub(super) fn conflict(&mut self, task: &Insertion) -> Result<Conflict, Abort> {
        let Some(unique) = &task.spec.extras().unique else { return Ok(Conflict::None { fresh: false }) };
        // A mode that only reports the holder does not lock it, so that other pushes which report the same holder need
        // not wait.
        let read = matches!(unique.mode, UniqueMode::Reject | UniqueMode::ReturnExisting);
        let holder = match holder(self.conn, &held_key(&unique.key), self.commit.now, read, self.look())? {
            Found::Held(holder) => holder,
            Found::Free { fresh } => return Ok(Conflict::None { fresh }),
            Found::Busy => return Ok(Conflict::Busy),
        };
        let (task_id, state) = (holder.task_id(), holder.state());
        let duplicate = Inserted::Duplicate { task_id, state };
        let answer = match unique.mode {
            UniqueMode::Reject => Inserted::Refused { existing: task_id },
            UniqueMode::ReturnExisting => duplicate,
            UniqueMode::KeepLatest => match self.follower(unique)? {
                Found::Busy => return Ok(Conflict::Busy),
                // A follower is newer than the task it follows, so the push replaces the follower.
                Found::Held(follower) => self.replace(&follower, task)?,
                Found::Free { .. } if state == TaskState::Running => return Ok(Conflict::Follow(holder.task_id.0)),
                Found::Free { .. } if state.is_terminal() => duplicate,
                Found::Free { .. } => self.replace(&holder, task)?,
            },
            UniqueMode::Replace if state == TaskState::Running || state.is_terminal() => duplicate,
            UniqueMode::Replace => self.replace(&holder, task)?,
        };
        Ok(Conflict::Answered(answer))
    }

    /// The task that waits for the holder of the key.
    fn follower(&mut self, unique: &Unique) -> Result<Found, Abort> {
        let found = holder(self.conn, &followed_key(&unique.key), self.commit.now, false, self.look())?;
        let Found::Held(follower) = found else { return Ok(found) };
        if follower.state() == TaskState::Waiting {
            return Ok(Found::Held(follower));
        }
        // An edit has moved this task on: it no longer waits.
        self.conn.run::<DropKey>(&[Value::Int(follower.seq)])?;
        Ok(Found::Free { fresh: false })
    }

    /// Gives a stored task that is not running the params, priority and `run_at` of a push.
    fn replace(&mut self, stored: &Holder, task: &Insertion) -> Result<Inserted, Abort> {
        let spec = &task.spec;
        let waits = stored.state() == TaskState::Waiting;
        let state = if waits { TaskState::Waiting } else { task.state };
        let values = [
            Value::Int(stored.seq),
            Value::Text(&spec.params),
            Value::Int(spec.priority.into()),
            Value::Int(spec.run_at.as_micros()),
            Value::Text(state.as_str()),
            self.now(),
        ];
        self.conn.run::<Replace>(&values)?;
        Ok(Inserted::Replaced { task_id: stored.task_id(), state })
    }

    /// The answers to a group if any of its tasks is refused. `None` when the group can be stored.
    pub(super) fn refusal(&mut self, group: &InsertGroup) -> Result<Option<Vec<Inserted>>, Abort> {
        let rejects = |task: &Insertion| mode(&task.spec) == Some(UniqueMode::Reject);
        if group.tasks.len() < 2 || !group.tasks.iter().any(rejects) {
            return Ok(None);
        }
        let mut trial = Trial { keys: Vec::new(), ids: Vec::new() };
        let mut refused = Vec::with_capacity(group.tasks.len());
        for task in &group.tasks {
            refused.push(trial.refuses(self, task)?);
        }
        if refused.iter().all(Option::is_none) {
            return Ok(None);
        }
        let answer = |refused: Option<TaskId>| match refused {
            Some(existing) => Inserted::Refused { existing },
            None => Inserted::GroupRefused,
        };
        Ok(Some(refused.into_iter().map(answer).collect()))
    }
}

fn mode(spec: &TaskSpec) -> Option<UniqueMode> {
    spec.extras().unique.as_ref().map(|unique| unique.mode)
}

/// A trial run of storing a group, task by task, to see whether any of its tasks would be refused.
struct Trial<'a> {
    ids: Vec<TaskId>,
    /// The keys that tasks of the group would hold.
    keys: Vec<(&'a str, TaskId)>,
}

impl<'a> Trial<'a> {
    fn refuses<C: Conn>(&mut self, batch: &mut Batch<'_, C>, task: &'a Insertion) -> Result<Option<TaskId>, Abort> {
        let (spec, now) = (&task.spec, batch.commit.now);
        if self.ids.contains(&spec.task_id) || batch.known(spec)?.is_some() {
            return Ok(None);
        }
        let Some(unique) = &spec.extras().unique else {
            self.ids.push(spec.task_id);
            return Ok(None);
        };
        let in_group = self.keys.iter().find(|(key, _)| *key == unique.key).map(|(_, id)| *id);
        let existing = match in_group {
            Some(id) => Some(id),
            None => Holder::find(batch.conn, &held_key(&unique.key))?
                .filter(|holder| holder.holds(now))
                .map(|holder| holder.task_id()),
        };
        if existing.is_some() {
            return Ok(existing.filter(|_| unique.mode == UniqueMode::Reject));
        }
        self.ids.push(spec.task_id);
        let state = if task.claim { TaskState::Running } else { task.state };
        if holds_key((unique.scope, unique.mode), unique.until(spec.created_at), state, now) {
            self.keys.push((&unique.key, spec.task_id));
        }
        Ok(None)
    }
}
