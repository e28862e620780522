//! Unique keys: the tasks that hold them, and the result of a push whose key is held.

use std::collections::HashMap;

use super::rows::Row;
use super::store::Store;
use crate::backend::{Commit, InsertGroup, Inserted, Insertion};
use crate::clock::Timestamp;
use crate::task::{TaskId, TaskSpec, TaskState, Unique, UniqueMode, holds_key};

/// How to handle a push that has a unique key.
pub(super) enum Conflict {
    /// No task holds the key.
    None,
    /// The push is answered without being stored.
    Answered(Inserted),
    /// The push is stored and waits for the task at this position.
    Follow(i64),
}

fn holds(row: &Row, now: Timestamp) -> bool {
    let unique = row.spec.extras().unique.as_ref();
    unique.is_some_and(|unique| {
        holds_key((unique.scope, unique.mode), unique.until(row.spec.created_at), row.state, now)
    })
}

impl Store {
    /// The task that holds `key` now.
    fn key_holder(&self, key: &str, now: Timestamp) -> Option<(i64, &Row)> {
        let seq = *self.keys.get(key)?;
        Some((seq, self.rows.get(seq).filter(|row| holds(row, now))?))
    }

    /// True if `seq` may take its unique key, because it already has the key or no task holds it.
    pub(super) fn key_is_free_for(&self, seq: i64, now: Timestamp) -> bool {
        let unique = self.rows.get(seq).and_then(|row| row.spec.extras().unique.as_ref());
        let holder = unique.and_then(|unique| self.key_holder(&unique.key, now));
        holder.is_none_or(|(holder, _)| holder == seq)
    }

    /// True if `seq` has its unique key: no other task took it.
    pub(super) fn has_key(&self, seq: i64, unique: &Unique) -> bool {
        self.keys.get(unique.key.as_str()) == Some(&seq)
    }

    /// Gives `seq` its unique key, if it has any, and takes it from the last holder.
    pub(super) fn take_key(&mut self, seq: i64) {
        let row = self.rows.get(seq);
        if let Some(unique) = row.and_then(|row| row.spec.extras().unique.as_ref()) {
            match self.keys.get_mut(unique.key.as_str()) {
                Some(holder) => *holder = seq,
                None => drop(self.keys.insert(unique.key.as_str().into(), seq)),
            }
        }
    }

    /// Handles a push by the mode of its key.
    pub(super) fn conflict(&mut self, insertion: &Insertion, unique: &Unique, now: Timestamp) -> Conflict {
        let Some((seq, holder)) = self.key_holder(&unique.key, now) else { return Conflict::None };
        let (task_id, state) = (holder.spec.task_id, holder.state);
        let follower = holder.follower();
        let duplicate = Conflict::Answered(Inserted::Duplicate { task_id, state });
        match unique.mode {
            UniqueMode::Reject => Conflict::Answered(Inserted::Refused { existing: task_id }),
            UniqueMode::ReturnExisting => duplicate,
            // A follower is newer than the task that it follows, so the follower is replaced.
            UniqueMode::KeepLatest if follower.is_some() => {
                Conflict::Answered(self.replace(follower.unwrap_or(seq), insertion, now))
            }
            UniqueMode::KeepLatest if state == TaskState::Running => Conflict::Follow(seq),
            UniqueMode::Replace | UniqueMode::KeepLatest if state == TaskState::Running || state.is_terminal() => {
                duplicate
            }
            UniqueMode::Replace | UniqueMode::KeepLatest => Conflict::Answered(self.replace(seq, insertion, now)),
        }
    }

    /// Gives a stored task that is not running the params, priority and `run_at` of a push.
    fn replace(&mut self, seq: i64, insertion: &Insertion, now: Timestamp) -> Inserted {
        let new = &insertion.spec;
        self.change(seq, |row| {
            let spec = std::sync::Arc::make_mut(&mut row.spec);
            spec.params.clone_from(&new.params);
            spec.priority = new.priority;
            spec.run_at = new.run_at;
            row.weight = super::commit::weight(spec);
            row.run_at = new.run_at;
            if row.state != TaskState::Waiting && row.state != insertion.state {
                row.state = insertion.state;
                row.updated_at = now;
            }
        });
        let row = self.rows.get(seq).expect("the row was there when its key was met, under the same lock");
        Inserted::Replaced { task_id: row.spec.task_id, state: row.state }
    }

    /// Makes `follower` wait for the running task at `parent`.
    pub(super) fn follow(&mut self, follower: i64, parent: i64) {
        if let Some(row) = self.rows.get_mut(parent) {
            row.rare().follower = Some(follower);
            let parent_id = row.spec.task_id;
            if let Some(row) = self.rows.get_mut(follower) {
                row.rare().parent = Some((parent, parent_id));
            }
        }
    }

    /// Frees the task that waits for `parent`, which has become terminal or is being deleted.
    pub(super) fn free_follower(&mut self, parent: i64, now: Timestamp) {
        let rare = self.rows.get_mut(parent).and_then(|row| row.rare.as_mut());
        let Some(seq) = rare.and_then(|rare| rare.follower.take()) else { return };
        let Some(row) = self.rows.get(parent) else { return };
        // The parent may still hold the key for a period; it then passes the key on.
        let key = row.spec.extras().unique.as_ref().map(|unique| unique.key.as_str());
        if key.is_some_and(|key| self.keys.get(key) == Some(&parent)) || self.key_is_free_for(seq, now) {
            self.take_key(seq);
        }
        let later = self.rows.get(seq).is_some_and(|row| row.run_at > now);
        self.move_to(seq, if later { TaskState::Scheduled } else { TaskState::Pending }, now);
        self.freed = true;
    }

    /// Records in the parent of `follower` that no task follows it any more.
    pub(super) fn unlink_parent(&mut self, follower: i64) {
        let rare = self.rows.get(follower).and_then(|row| row.rare.as_ref());
        if let Some((parent, _)) = rare.and_then(|rare| rare.parent)
            && let Some(rare) = self.rows.get_mut(parent).and_then(|row| row.rare.as_mut())
            && rare.follower == Some(follower)
        {
            rare.follower = None;
        }
    }

    /// The answers for a group in which a task is rejected; `None` if the group can be stored.
    pub(super) fn refusal(&self, group: &InsertGroup, commit: &Commit) -> Option<Vec<Inserted>> {
        let rejects = |task: &Insertion| reject_key(&task.spec).is_some();
        if group.tasks.len() < 2 || !group.tasks.iter().any(rejects) {
            return None;
        }
        let mut trial = Trial { store: self, ids: Vec::new(), keys: HashMap::new() };
        let refused: Vec<Option<TaskId>> = group.tasks.iter().map(|task| trial.refuses(task, commit.now)).collect();
        let answer = |refused: Option<TaskId>| match refused {
            Some(existing) => Inserted::Refused { existing },
            None => Inserted::GroupRefused,
        };
        refused.iter().any(Option::is_some).then(|| refused.into_iter().map(answer).collect())
    }
}

fn reject_key(spec: &TaskSpec) -> Option<&Unique> {
    spec.extras().unique.as_ref().filter(|unique| unique.mode == UniqueMode::Reject)
}

/// Simulates storing a group, task by task, to find out whether a task of it would be rejected.
struct Trial<'a> {
    store: &'a Store,
    ids: Vec<TaskId>,
    /// The keys that tasks of the group would hold.
    keys: HashMap<&'a str, TaskId>,
}

impl<'a> Trial<'a> {
    fn refuses(&mut self, task: &'a Insertion, now: Timestamp) -> Option<TaskId> {
        let spec = &task.spec;
        if self.ids.contains(&spec.task_id) || self.store.ids.get(spec.task_id).is_some() {
            return None;
        }
        let Some(unique) = &spec.extras().unique else {
            self.ids.push(spec.task_id);
            return None;
        };
        let stored = || self.store.key_holder(&unique.key, now).map(|(_, row)| row.spec.task_id);
        let holder = self.keys.get(unique.key.as_str()).copied().or_else(stored);
        match holder {
            Some(existing) => (unique.mode == UniqueMode::Reject).then_some(existing),
            None => {
                self.ids.push(spec.task_id);
                let state = if task.claim { TaskState::Running } else { task.state };
                if holds_key((unique.scope, unique.mode), unique.until(spec.created_at), state, now) {
                    self.keys.insert(&unique.key, spec.task_id);
                }
                None
            }
        }
    }
}
