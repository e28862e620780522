//! Stored limits, and the starts that their rates remember.

use std::collections::BTreeSet;

use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text};

use crate::backend::sql::conn::Conn;
use crate::backend::sql::dialect::placeholders;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::{StoredText, count, span};
use crate::backend::sql::statement::{Value, choose, statements};
use crate::backend::{Limit, LimitScope, Rate};
use crate::clock::micros;
use crate::limit::{Gate, Labels, Limits};

/// The SQL types of a stored limit.
type LimitTypes = (Text, Text, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>);
type LimitRow = (StoredText, StoredText, Option<i64>, Option<i64>, Option<i64>);

macro_rules! save {
    ($when_there:literal) => {
        concat!(
            "INSERT INTO task_limit (scope, name, running, tasks, period) VALUES (?1, ?2, ?3, ?4, ?5) ",
            $when_there,
            " running = ?3, tasks = ?4, period = ?5"
        )
    };
}

macro_rules! remember {
    ($when_there:literal) => {
        concat!(
            "INSERT INTO task_start (scope, name, subject, started_at, tasks) VALUES (?1, ?2, ?3, ?4, ?5) ",
            $when_there
        )
    };
}

statements! {
    AllLimits -> LimitTypes: "SELECT scope, name, running, tasks, period FROM task_limit ORDER BY scope, name";
    Save -> (): {
        sqlite save!("ON CONFLICT (scope, name) DO UPDATE SET");
        postgres save!("ON CONFLICT (scope, name) DO UPDATE SET");
        mysql save!("ON DUPLICATE KEY UPDATE");
    };
    Remove -> (): "DELETE FROM task_limit WHERE scope = ?1 AND name = ?2";
    ForgetAll -> (): "DELETE FROM task_start WHERE scope = ?1 AND name = ?2";
    /// Starts that no longer count, and starts written before a clock was set back.
    ForgetOld -> (): "DELETE FROM task_start WHERE scope = ?1 AND name = ?2
        AND (started_at <= ?3 OR started_at > ?4)";
    Remember -> (): {
        sqlite remember!("ON CONFLICT (scope, name, subject, started_at) DO UPDATE SET tasks = task_start.tasks + ?5");
        postgres remember!("ON CONFLICT (scope, name, subject, started_at) DO UPDATE SET tasks = task_start.tasks + ?5");
        mysql remember!("ON DUPLICATE KEY UPDATE tasks = tasks + ?5");
    };
    /// There are never many running tasks, and an index covers them.
    Running -> (Text, Text, Nullable<Text>, BigInt): "SELECT queue, type, limit_key, count(*)
        FROM task_queue INDEXED BY task_queue_running WHERE state = 'running' GROUP BY queue, type, limit_key";
}

/// The limit in a row. `None` when its scope is unknown, because a later version of the program may have more scopes.
fn read((scope, name, running, tasks, period): LimitRow) -> Option<Limit> {
    let rate = tasks.zip(period).map(|(tasks, period)| Rate { tasks: count(tasks), period: span(period) });
    Some(Limit { scope: scope.parse().ok()?, name: name.into(), running: running.map(count), rate })
}

pub(in crate::backend::sql) fn limits<C: Conn>(conn: &mut C) -> QueryResult<Vec<Limit>> {
    let rows: Vec<LimitRow> = conn.load::<AllLimits, _>(&[])?;
    let mut limits: Vec<Limit> = rows.into_iter().filter_map(read).collect();
    // The order of `LimitScope` is not the order of its texts.
    limits.sort_by(|a, b| (a.scope, &a.name).cmp(&(b.scope, &b.name)));
    Ok(limits)
}

pub(in crate::backend::sql) fn save<C: Conn>(conn: &mut C, limit: &Limit) -> Result<(), Abort> {
    let (scope, name) = (Value::Text(limit.scope.as_str()), Value::Text(&limit.name));
    let values = [
        scope,
        name,
        Value::MaybeInt(limit.running.map(i64::from)),
        Value::MaybeInt(limit.rate.map(|rate| rate.tasks.into())),
        Value::MaybeInt(limit.rate.map(|rate| micros(rate.period))),
    ];
    conn.run::<Save>(&values)?;
    if limit.rate.is_none() {
        conn.run::<ForgetAll>(&[scope, name])?;
    }
    Ok(())
}

/// Deletes the limit first, as a claim locks it first: the transaction that has its row also has its starts.
pub(in crate::backend::sql) fn remove<C: Conn>(conn: &mut C, scope: LimitScope, name: &str) -> Result<bool, Abort> {
    let values = [Value::Text(scope.as_str()), Value::Text(name)];
    let removed = conn.run::<Remove>(&values)?;
    conn.run::<ForgetAll>(&values)?;
    Ok(removed > 0)
}

/// Reads and locks limits on behalf of a gate. Until this claim commits, no concurrent claim changes their counts. With
/// `wait`, limits are locked in the same order by all claims, so that two claims never wait for each other. Without
/// `wait`, limits that a concurrent transaction has locked are left out.
pub(super) fn open<C: Conn>(
    conn: &mut C,
    gate: &mut Gate,
    known: &Limits,
    places: &BTreeSet<usize>,
    wait: bool,
) -> QueryResult<()> {
    let mut ids: Vec<(&str, &str, usize)> = places
        .iter()
        .map(|place| (known.get(*place).scope.as_str(), known.get(*place).name.as_str(), *place))
        .collect();
    ids.sort_unstable();
    for ids in ids.chunks(C::MOST_ROWS) {
        let values: Vec<Value<'_>> =
            ids.iter().flat_map(|(scope, name, _)| [Value::Text(scope), Value::Text(name)]).collect();
        let each = (0..ids.len()).map(|id| format!("(scope = ?{} AND name = ?{})", id * 2 + 1, id * 2 + 2));
        let sql = format!(
            "SELECT scope, name, running, tasks, period FROM task_limit WHERE {} ORDER BY scope, name {}",
            each.collect::<Vec<_>>().join(" OR "),
            if wait { "{lock}" } else { "{skip}" }
        );
        let rows: Vec<LimitRow> = conn.load_once::<LimitTypes, _>(&sql, &values)?;
        let found: Vec<Limit> = rows.into_iter().filter_map(read).collect();
        for (scope, name, place) in ids {
            match found.iter().find(|limit| limit.scope.as_str() == *scope && limit.name == **name) {
                Some(limit) => gate.open(*place, limit.clone()),
                None if wait => gate.gone(*place),
                None => gate.busy(*place),
            }
        }
    }
    if gate.counts_running(places) {
        // Read after the limits were locked, so that all tasks started under them before are seen.
        let running: Vec<(StoredText, StoredText, Option<StoredText>, i64)> = conn.load::<Running, _>(&[])?;
        for (queue, kind, key, tasks) in running {
            let labels = Labels { queue: &queue, kind: &kind, key: key.as_deref() };
            gate.runs(places, labels, tasks.max(0).unsigned_abs());
        }
    }
    Ok(())
}

/// Tells a gate the recorded starts that it needs for these tasks.
pub(super) fn look<'a, C: Conn>(
    conn: &mut C,
    gate: &mut Gate,
    tasks: impl Iterator<Item = Labels<'a>>,
) -> QueryResult<()> {
    for (place, subjects) in gate.unlooked(tasks) {
        let Some(limit) = gate.limit(place).cloned() else { continue };
        let Some(rate) = limit.rate else { continue };
        let (after, until) = gate.window(rate);
        for subjects in subjects.chunks(C::MOST_ROWS) {
            let mut values = vec![
                Value::Text(limit.scope.as_str()),
                Value::Text(&limit.name),
                Value::Int(after.as_micros()),
                Value::Int(until.as_micros()),
            ];
            values.extend(subjects.iter().map(|subject| Value::Text(subject)));
            // The sum of a BIGINT column is no BIGINT.
            let number = choose!(C::DIALECT, { sqlite "BIGINT"; postgres "BIGINT"; mysql "SIGNED"; });
            let sql = format!(
                "SELECT subject, CAST(sum(tasks) AS {number}), min(started_at) FROM task_start
                WHERE scope = ?1 AND name = ?2 AND started_at > ?3 AND started_at <= ?4 AND subject IN ({})
                GROUP BY subject",
                placeholders(5, subjects.len())
            );
            let rows: Vec<(StoredText, i64, i64)> = conn.load_once::<(Text, BigInt, BigInt), _>(&sql, &values)?;
            for (subject, tasks, oldest) in rows {
                gate.started(
                    place,
                    &subject,
                    tasks.max(0).unsigned_abs(),
                    crate::clock::Timestamp::from_micros(oldest),
                );
            }
        }
    }
    Ok(())
}

/// Records the starts that a gate admitted, and deletes starts that no longer count.
pub(super) fn remember<C: Conn>(conn: &mut C, gate: &Gate) -> QueryResult<()> {
    let mut forgotten = BTreeSet::new();
    for start in gate.starts() {
        let Some(limit) = gate.limit(start.place) else { continue };
        let (scope, name) = (Value::Text(limit.scope.as_str()), Value::Text(&limit.name));
        if forgotten.insert(start.place)
            && let Some(rate) = limit.rate
        {
            let (after, until) = gate.window(rate);
            // Keeps starts for an extra period, because the clock of a different node may lag behind.
            let old = after - rate.period;
            conn.run::<ForgetOld>(&[scope, name, Value::Int(old.as_micros()), Value::Int(until.as_micros())])?;
        }
        let (subject, at) = (Value::Text(&start.subject), Value::Int(start.at.as_micros()));
        conn.run::<Remember>(&[scope, name, subject, at, Value::Int(start.tasks.into())])?;
    }
    Ok(())
}
