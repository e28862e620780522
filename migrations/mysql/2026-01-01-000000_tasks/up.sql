-- Times are microseconds since 1970-01-01T00:00:00Z. The views at the end show them as text. Ids are hyphenated UUIDs.
-- Params and similar columns are JSON text.

-- Names and keys are compared byte by byte. `{collation}` is the name of that collation on this server. MySQL has no
-- partial indexes. Instead, generated columns are indexed that are NULL for all other rows, so that a change of other
-- rows changes no index entry. The columns are stored, because through an index over a virtual column MariaDB 10.11
-- misses some rows while other rows change.
CREATE TABLE IF NOT EXISTS task_queue (
    seq          BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    task_id      VARCHAR(36)  NOT NULL,
    queue        VARCHAR(200) NOT NULL,
    type         VARCHAR(200) NOT NULL,
    params       LONGTEXT     NOT NULL,
    state        VARCHAR(16)  NOT NULL,
    priority     BIGINT       NOT NULL,
    run_at       BIGINT       NOT NULL,
    attempt      BIGINT       NOT NULL DEFAULT 0,
    max_attempts BIGINT       NOT NULL,
    crash_count  BIGINT       NOT NULL DEFAULT 0,
    timeout      BIGINT,
    retry        VARCHAR(255) NOT NULL,
    unique_key   VARCHAR(255),
    unique_rule  VARCHAR(400),
    unique_until BIGINT,
    parent_id    VARCHAR(36),
    schedule_id  VARCHAR(36),
    nominal_at   BIGINT,
    tags         LONGTEXT,
    meta         LONGTEXT,
    progress     LONGTEXT,
    result       LONGTEXT,
    last_error   LONGTEXT,
    node         VARCHAR(36),
    claim_token  BIGINT,
    cancel_reason LONGTEXT,
    expires_at   BIGINT,
    created_at   BIGINT       NOT NULL,
    updated_at   BIGINT       NOT NULL,
    started_at   BIGINT,
    finished_at  BIGINT,
    limit_key    VARCHAR(250),
    -- Scheduled and retrying tasks.
    due_at       BIGINT       GENERATED ALWAYS AS (CASE WHEN state IN ('scheduled', 'retrying') THEN run_at END) STORED,
    -- Waiting tasks.
    waits_for    VARCHAR(36)  GENERATED ALWAYS AS (CASE WHEN state = 'waiting' THEN parent_id END) STORED,
    -- Tasks that can still expire, because they have never started.
    expiring_at  BIGINT       GENERATED ALWAYS AS (CASE WHEN started_at IS NULL
        AND state IN ('waiting', 'scheduled', 'pending', 'retrying') THEN expires_at END) STORED,
    -- Tasks that have ended.
    ended        VARCHAR(16)  GENERATED ALWAYS AS (CASE WHEN finished_at IS NOT NULL THEN state END) STORED,
    -- Unfinished tasks of schedules.
    instance_of  VARCHAR(36)  GENERATED ALWAYS AS
        (CASE WHEN state IN ('waiting', 'scheduled', 'pending', 'running', 'retrying') THEN schedule_id END) STORED,
    UNIQUE KEY task_queue_task_id (task_id),
    -- The claim, in claim order. Also running tasks, and counts.
    KEY task_queue_state (state, queue, priority, run_at),
    KEY task_queue_due (due_at),
    KEY task_queue_waiting (waits_for),
    KEY task_queue_expires (expiring_at),
    KEY task_queue_finished (ended, finished_at),
    -- A key has at most a single holder. A task that waits for the holder stores the character 31 and `>` before the
    -- key. A key that itself begins with the character 31 is stored with the character 31 and `=` before it.
    UNIQUE KEY task_queue_unique (unique_key),
    KEY task_queue_instances (instance_of),
    -- A firing makes a task only once.
    UNIQUE KEY task_queue_firing (schedule_id, nominal_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

-- A number that changes with each edit and each change of a setting. Nodes poll it, because MySQL has no notifications.
CREATE TABLE IF NOT EXISTS change_mark (
    name    VARCHAR(36) PRIMARY KEY NOT NULL,
    version BIGINT      NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};
INSERT IGNORE INTO change_mark (name, version) VALUES ('edits', 0);

-- A row for each attempt that has ended. The attempt in progress is in `task_queue`.
CREATE TABLE IF NOT EXISTS task_execution (
    task_id       VARCHAR(36)   NOT NULL,
    execution_id  BIGINT NOT NULL,
    attempt       BIGINT NOT NULL,
    status        VARCHAR(16)   NOT NULL,
    node          VARCHAR(36)   NOT NULL,
    started_at    BIGINT NOT NULL,
    finished_at   BIGINT NOT NULL,
    result        LONGTEXT,
    error_message LONGTEXT,
    PRIMARY KEY (task_id, execution_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

-- Schedules, which make tasks at given times. The three trigger columns (`trigger_kind`, `trigger_expr`, `timezone`)
-- alone define the trigger. `options` is a JSON object of options that are rarely set. `turn` changes with each write,
-- so that only one of many nodes fires. `version` is the version in `schedule_mark` when the schedule was last saved.
-- After an edit by hand, set `next_run_at` to NULL, so that nodes find the edit within a minute.
CREATE TABLE IF NOT EXISTS scheduler_task (
    schedule_id    VARCHAR(36) PRIMARY KEY NOT NULL,
    name           VARCHAR(200) NOT NULL UNIQUE,
    type           VARCHAR(200) NOT NULL,
    params         LONGTEXT NOT NULL,
    trigger_kind   VARCHAR(32) NOT NULL,
    trigger_expr   LONGTEXT NOT NULL,
    timezone       VARCHAR(64) NOT NULL,
    queue          VARCHAR(200) NOT NULL,
    priority       BIGINT NOT NULL,
    timeout        BIGINT,
    max_attempts   BIGINT NOT NULL,
    retry          VARCHAR(255) NOT NULL,
    options        LONGTEXT NOT NULL,
    misfire_grace  BIGINT,
    coalesce       VARCHAR(32) NOT NULL,
    max_instances  BIGINT NOT NULL,
    overlap_policy VARCHAR(32) NOT NULL,
    run_limit      BIGINT,
    status         VARCHAR(32) NOT NULL,
    status_reason  LONGTEXT,
    paused_until   BIGINT,
    code           LONGTEXT,
    code_name      VARCHAR(200),
    description    LONGTEXT,
    cursor_at      BIGINT NOT NULL,
    last_run_at    BIGINT,
    next_run_at    BIGINT,
    run_count      BIGINT NOT NULL DEFAULT 0,
    failures_from  BIGINT NOT NULL,
    forgotten_to   BIGINT,
    turn           BIGINT NOT NULL DEFAULT 0,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    version        BIGINT NOT NULL DEFAULT 0,
    KEY scheduler_task_due (status, next_run_at, paused_until, schedule_id),
    KEY scheduler_task_version (version),
    -- The schedule that code has defined under a name, even if the schedule was renamed since.
    KEY scheduler_task_code (code_name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

-- A number that increases each time a schedule is saved.
CREATE TABLE IF NOT EXISTS schedule_mark (
    name    VARCHAR(36) PRIMARY KEY NOT NULL,
    version BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};
INSERT IGNORE INTO schedule_mark (name, version) VALUES ('schedules', 0);

-- The result of each nominal time. `times` is the number of nominal times that a row stands for, at least.
CREATE TABLE IF NOT EXISTS schedule_firing (
    schedule_id VARCHAR(36) NOT NULL,
    nominal_at  BIGINT NOT NULL,
    status      VARCHAR(32) NOT NULL,
    cause       VARCHAR(32) NOT NULL,
    times       BIGINT NOT NULL,
    reason      LONGTEXT,
    task_id     VARCHAR(36),
    node        VARCHAR(36) NOT NULL,
    fired_at    BIGINT NOT NULL,
    PRIMARY KEY (schedule_id, nominal_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

-- Nominal times whose task was deleted, so that none of them makes a second task. `status` is the last state of the
-- task. The oldest rows are deleted in time. `forgotten_to` of the schedule is the latest time of which nothing is
-- known.
CREATE TABLE IF NOT EXISTS schedule_run (
    schedule_id VARCHAR(36) NOT NULL,
    nominal_at  BIGINT NOT NULL,
    status      VARCHAR(16) NOT NULL,
    PRIMARY KEY (schedule_id, nominal_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

-- `types` are the task types with a handler. `pulls` are the queues that are pulled from, for tasks of any type. Both
-- are JSON arrays.
CREATE TABLE IF NOT EXISTS node (
    node_id      VARCHAR(36)   PRIMARY KEY NOT NULL,
    name         VARCHAR(200)   NOT NULL,
    started_at   BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    lease_until  BIGINT NOT NULL,
    version      LONGTEXT   NOT NULL,
    queues       LONGTEXT   NOT NULL,
    types        LONGTEXT   NOT NULL,
    pulls        LONGTEXT   NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

-- The settings of a queue. A queue without settings has no row.
CREATE TABLE IF NOT EXISTS queue (
    queue       VARCHAR(200)   PRIMARY KEY NOT NULL,
    paused      BIGINT NOT NULL,
    concurrency BIGINT
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

-- Limits over all nodes. `running` is the maximum number of tasks that run at a time. `tasks` is the maximum number of
-- starts in a `period`. `name` is a queue, a type or the prefix of limit keys.
CREATE TABLE IF NOT EXISTS task_limit (
    scope   VARCHAR(16)  NOT NULL,
    name    VARCHAR(200) NOT NULL,
    running BIGINT,
    tasks   BIGINT,
    period  BIGINT,
    PRIMARY KEY (scope, name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

-- The starts under limits with a rate, kept for the period of the limit. `subject` is the limit key. It is empty for
-- limits of queues and types.
CREATE TABLE IF NOT EXISTS task_start (
    scope      VARCHAR(16)  NOT NULL,
    name       VARCHAR(200) NOT NULL,
    subject    VARCHAR(250) NOT NULL,
    started_at BIGINT       NOT NULL,
    tasks      BIGINT       NOT NULL,
    PRIMARY KEY (scope, name, subject, started_at),
    KEY task_start_time (scope, name, started_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation};

CREATE OR REPLACE VIEW task_queue_view AS
SELECT seq, task_id, queue, type, params, state, priority,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, run_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS run_at,
       attempt, max_attempts, crash_count, timeout / 1000000.0 AS timeout_seconds, retry,
       CASE WHEN left(unique_key, 1) = char(31 USING utf8mb4) THEN substr(unique_key, 3) ELSE unique_key END AS unique_key,
       parent_id, schedule_id,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, nominal_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS nominal_at,
       tags, meta, progress, result, last_error, node, cancel_reason, limit_key,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, expires_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS expires_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, created_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS created_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, updated_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS updated_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, started_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS started_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, finished_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS finished_at
FROM task_queue;

CREATE OR REPLACE VIEW task_execution_view AS
SELECT task_id, execution_id, attempt, status, node,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, started_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS started_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, finished_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS finished_at,
       (finished_at - started_at) / 1000000.0 AS duration_seconds, result, error_message
FROM task_execution;

CREATE OR REPLACE VIEW node_view AS
SELECT node_id, name, version, queues, types, pulls,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, started_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS started_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, heartbeat_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS heartbeat_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, lease_until, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS lease_until
FROM node;

CREATE OR REPLACE VIEW scheduler_task_view AS
SELECT schedule_id, name, type, params, trigger_kind, trigger_expr, timezone, queue, status, status_reason, run_count,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, cursor_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS cursor_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, paused_until, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS paused_until,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, last_run_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS last_run_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, next_run_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS next_run_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, created_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS created_at,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, updated_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS updated_at
FROM scheduler_task;

CREATE OR REPLACE VIEW schedule_firing_view AS
SELECT schedule_id,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, nominal_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS nominal_at,
       status, cause, times, reason, task_id, node,
       DATE_FORMAT(TIMESTAMPADD(MICROSECOND, fired_at, '1970-01-01'), '%Y-%m-%dT%H:%i:%s.%fZ') AS fired_at
FROM schedule_firing;
