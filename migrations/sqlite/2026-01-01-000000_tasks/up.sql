-- Times are microseconds since 1970-01-01T00:00:00Z. The views at the end show them as text. Ids are hyphenated UUIDs.
-- Params and similar columns are JSON text.

-- Without AUTOINCREMENT, because it writes to a second table at each insert. Instead, the program numbers the rows
-- itself, and records the number in `task_sequence` when it deletes the newest row.
CREATE TABLE task_queue (
    seq          INTEGER PRIMARY KEY NOT NULL,
    task_id      TEXT    NOT NULL UNIQUE,
    queue        TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    params       TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    priority     BIGINT  NOT NULL,
    run_at       BIGINT  NOT NULL,
    attempt      BIGINT  NOT NULL DEFAULT 0,
    max_attempts BIGINT  NOT NULL,
    crash_count  BIGINT  NOT NULL DEFAULT 0,
    timeout      BIGINT,
    retry        TEXT    NOT NULL,
    unique_key   TEXT,
    unique_rule  TEXT,
    unique_until BIGINT,
    parent_id    TEXT,
    schedule_id  TEXT,
    nominal_at   BIGINT,
    tags         TEXT,
    meta         TEXT,
    progress     TEXT,
    result       TEXT,
    last_error   TEXT,
    node         TEXT,
    claim_token  BIGINT,
    cancel_reason TEXT,
    expires_at   BIGINT,
    created_at   BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL,
    started_at   BIGINT,
    finished_at  BIGINT,
    limit_key    TEXT
);

-- Each of these indexes holds only the rows that its queries need. So a task that is stored as running is added to a
-- single index, and to a second one when it ends.

-- The claim, in claim order. The type is included so that a filter by type reads only the rows that it takes.
CREATE INDEX task_queue_pending ON task_queue (queue, priority, run_at, seq, type) WHERE state = 'pending';
-- Promotion and counts. The queue comes before the time so that counting needs no sorting.
CREATE INDEX task_queue_due ON task_queue (state, queue, run_at) WHERE state IN ('scheduled', 'retrying');
-- Rescue, cancel requests and counts. The key is the queue and not the node: it is short, counts can be read from it,
-- and there are never many running tasks.
CREATE INDEX task_queue_running ON task_queue (queue) WHERE state = 'running';
-- Retention and counts.
CREATE INDEX task_queue_finished ON task_queue (state, queue, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX task_queue_waiting ON task_queue (parent_id, queue) WHERE state = 'waiting';
-- Tasks that can still expire. A task that has started once never expires.
CREATE INDEX task_queue_expires ON task_queue (expires_at) WHERE expires_at IS NOT NULL AND started_at IS NULL
    AND state IN ('waiting', 'scheduled', 'pending', 'retrying');
-- A key has at most a single holder. A task that waits for the holder stores the character 31 and `>` before the key. A
-- key that itself begins with the character 31 is stored with the character 31 and `=` before it.
CREATE UNIQUE INDEX task_queue_unique ON task_queue (unique_key) WHERE unique_key IS NOT NULL;
-- The unfinished tasks of a schedule.
CREATE INDEX task_queue_instances ON task_queue (schedule_id)
    WHERE schedule_id IS NOT NULL AND state IN ('waiting', 'scheduled', 'pending', 'running', 'retrying');
-- A firing makes a task only once.
CREATE UNIQUE INDEX task_queue_firing ON task_queue (schedule_id, nominal_at) WHERE schedule_id IS NOT NULL;

-- The highest place in push order of a deleted task, so that this place is never given out again.
CREATE TABLE task_sequence (
    name TEXT   PRIMARY KEY NOT NULL,
    last BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO task_sequence (name, last) VALUES ('task_queue', 0);

-- A row for each attempt that has ended. The attempt in progress is in `task_queue`. WITHOUT ROWID, because the table
-- is then stored in the index of the primary key, so that an attempt is a single write.
CREATE TABLE task_execution (
    task_id       TEXT   NOT NULL,
    execution_id  BIGINT NOT NULL,
    attempt       BIGINT NOT NULL,
    status        TEXT   NOT NULL,
    node          TEXT   NOT NULL,
    started_at    BIGINT NOT NULL,
    finished_at   BIGINT NOT NULL,
    result        TEXT,
    error_message TEXT,
    PRIMARY KEY (task_id, execution_id)
) WITHOUT ROWID;

-- Schedules, which make tasks at given times. The three trigger columns (`trigger_kind`, `trigger_expr`, `timezone`)
-- alone define the trigger. `options` is a JSON object of options that are rarely set. `turn` changes with each write,
-- so that only one of many nodes fires. `version` is the version in `schedule_mark` when the schedule was last saved.
-- After an edit by hand, set `next_run_at` to NULL, so that nodes find the edit within a minute.
CREATE TABLE scheduler_task (
    schedule_id    TEXT   PRIMARY KEY NOT NULL,
    name           TEXT   NOT NULL UNIQUE,
    type           TEXT   NOT NULL,
    params         TEXT   NOT NULL,
    trigger_kind   TEXT   NOT NULL,
    trigger_expr   TEXT   NOT NULL,
    timezone       TEXT   NOT NULL,
    queue          TEXT   NOT NULL,
    priority       BIGINT NOT NULL,
    timeout        BIGINT,
    max_attempts   BIGINT NOT NULL,
    retry          TEXT   NOT NULL,
    options        TEXT   NOT NULL,
    misfire_grace  BIGINT,
    coalesce       TEXT   NOT NULL,
    max_instances  BIGINT NOT NULL,
    overlap_policy TEXT   NOT NULL,
    run_limit      BIGINT,
    status         TEXT   NOT NULL,
    status_reason  TEXT,
    paused_until   BIGINT,
    code           TEXT,
    code_name      TEXT,
    description    TEXT,
    cursor_at      BIGINT NOT NULL,
    last_run_at    BIGINT,
    next_run_at    BIGINT,
    run_count      BIGINT NOT NULL DEFAULT 0,
    failures_from  BIGINT NOT NULL,
    forgotten_to   BIGINT,
    turn           BIGINT NOT NULL DEFAULT 0,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    version        BIGINT NOT NULL DEFAULT 0
);
-- The next firing of every schedule, read from the index alone.
CREATE INDEX scheduler_task_due ON scheduler_task (status, next_run_at, paused_until, schedule_id);
CREATE INDEX scheduler_task_version ON scheduler_task (version);
-- The schedule that code has defined under a name, even if the schedule was renamed since.
CREATE INDEX scheduler_task_code ON scheduler_task (code_name) WHERE code_name IS NOT NULL;

-- A number that increases each time a schedule is saved.
CREATE TABLE schedule_mark (
    name    TEXT   PRIMARY KEY NOT NULL,
    version BIGINT NOT NULL
);
INSERT INTO schedule_mark (name, version) VALUES ('schedules', 0);

-- The result of each nominal time. `times` is the number of nominal times that a row stands for, at least.
CREATE TABLE schedule_firing (
    schedule_id TEXT   NOT NULL,
    nominal_at  BIGINT NOT NULL,
    status      TEXT   NOT NULL,
    cause       TEXT   NOT NULL,
    times       BIGINT NOT NULL,
    reason      TEXT,
    task_id     TEXT,
    node        TEXT   NOT NULL,
    fired_at    BIGINT NOT NULL,
    PRIMARY KEY (schedule_id, nominal_at)
) WITHOUT ROWID;

-- Nominal times whose task was deleted, so that none of them makes a second task. `status` is the last state of the
-- task. The oldest rows are deleted in time. `forgotten_to` of the schedule is the latest time of which nothing is
-- known.
CREATE TABLE schedule_run (
    schedule_id TEXT   NOT NULL,
    nominal_at  BIGINT NOT NULL,
    status      TEXT   NOT NULL,
    PRIMARY KEY (schedule_id, nominal_at)
) WITHOUT ROWID;

-- `types` are the task types with a handler. `pulls` are the queues that are pulled from, for tasks of any type. Both
-- are JSON arrays.
CREATE TABLE node (
    node_id      TEXT   PRIMARY KEY NOT NULL,
    name         TEXT   NOT NULL,
    started_at   BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    lease_until  BIGINT NOT NULL,
    version      TEXT   NOT NULL,
    queues       TEXT   NOT NULL,
    types        TEXT   NOT NULL,
    pulls        TEXT   NOT NULL
);

-- The settings of a queue. A queue without settings has no row.
CREATE TABLE queue (
    queue       TEXT   PRIMARY KEY NOT NULL,
    paused      BIGINT NOT NULL,
    concurrency BIGINT
);

-- Limits over all nodes. `running` is the maximum number of tasks that run at a time. `tasks` is the maximum number of
-- starts in a `period`. `name` is a queue, a type or the prefix of limit keys.
CREATE TABLE task_limit (
    scope   TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    running BIGINT,
    tasks   BIGINT,
    period  BIGINT,
    PRIMARY KEY (scope, name)
) WITHOUT ROWID;

-- The starts under limits with a rate, kept for the period of the limit. `subject` is the limit key. It is empty for
-- limits of queues and types.
CREATE TABLE task_start (
    scope      TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    tasks      BIGINT NOT NULL,
    PRIMARY KEY (scope, name, subject, started_at)
) WITHOUT ROWID;
CREATE INDEX task_start_time ON task_start (scope, name, started_at);

CREATE VIEW task_queue_view AS
SELECT seq, task_id, queue, type, params, state, priority,
       strftime('%Y-%m-%dT%H:%M:%fZ', run_at / 1000000.0, 'unixepoch') AS run_at,
       attempt, max_attempts, crash_count, timeout / 1000000.0 AS timeout_seconds, retry,
       CASE WHEN substr(unique_key, 1, 1) = char(31) THEN substr(unique_key, 3) ELSE unique_key END AS unique_key,
       parent_id, schedule_id,
       strftime('%Y-%m-%dT%H:%M:%fZ', nominal_at / 1000000.0, 'unixepoch') AS nominal_at,
       tags, meta, progress, result, last_error, node, cancel_reason, limit_key,
       strftime('%Y-%m-%dT%H:%M:%fZ', expires_at / 1000000.0, 'unixepoch') AS expires_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000000.0, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000000.0, 'unixepoch') AS updated_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', finished_at / 1000000.0, 'unixepoch') AS finished_at
FROM task_queue;

CREATE VIEW task_execution_view AS
SELECT task_id, execution_id, attempt, status, node,
       strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', finished_at / 1000000.0, 'unixepoch') AS finished_at,
       (finished_at - started_at) / 1000000.0 AS duration_seconds, result, error_message
FROM task_execution;

CREATE VIEW node_view AS
SELECT node_id, name, version, queues, types, pulls,
       strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', heartbeat_at / 1000000.0, 'unixepoch') AS heartbeat_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', lease_until / 1000000.0, 'unixepoch') AS lease_until
FROM node;

CREATE VIEW scheduler_task_view AS
SELECT schedule_id, name, type, params, trigger_kind, trigger_expr, timezone, queue, status, status_reason, run_count,
       strftime('%Y-%m-%dT%H:%M:%fZ', cursor_at / 1000000.0, 'unixepoch') AS cursor_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', paused_until / 1000000.0, 'unixepoch') AS paused_until,
       strftime('%Y-%m-%dT%H:%M:%fZ', last_run_at / 1000000.0, 'unixepoch') AS last_run_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', next_run_at / 1000000.0, 'unixepoch') AS next_run_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000000.0, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000000.0, 'unixepoch') AS updated_at
FROM scheduler_task;

CREATE VIEW schedule_firing_view AS
SELECT schedule_id,
       strftime('%Y-%m-%dT%H:%M:%fZ', nominal_at / 1000000.0, 'unixepoch') AS nominal_at,
       status, cause, times, reason, task_id, node,
       strftime('%Y-%m-%dT%H:%M:%fZ', fired_at / 1000000.0, 'unixepoch') AS fired_at
FROM schedule_firing;
