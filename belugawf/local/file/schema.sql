-- belugawf's database: one file, readable by a person.
--
-- The life of a run: a row in `runs` and its WorkflowStarted in `events`. Whoever wants something of
-- it (a signal, a cancel) writes to `inbox`. Its owner, a process named in `live`, moves messages from
-- `inbox` to `events` together with what the workflow's code asked for in answer. The last event ends
-- it. `events` is the only truth: `runs` and `waits` are projections of it, written in the same
-- transaction; `live` and `owners` may be lost.
--
-- Times are microseconds since 1970 in UTC; the views show them as ISO 8601. Payloads are JSON, and
-- stand last: what is before them is read without them.

CREATE TABLE runs (
    key            INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again after a run was pruned
    run_id         TEXT NOT NULL UNIQUE,
    workflow_id    TEXT NOT NULL,
    chain_id       TEXT NOT NULL,          -- run_id of the first run of its chain
    parent_run_id  TEXT,
    parent_close   TEXT,
    workflow       TEXT NOT NULL,
    status         TEXT NOT NULL DEFAULT 'running' CHECK (status IN (
                       'running', 'completed', 'failed', 'cancelled', 'terminated', 'timed_out',
                       'continued_as_new')),
    created_at     INTEGER NOT NULL,
    closed_at      INTEGER,
    deadline       INTEGER,
    due_at         INTEGER,                -- when it can move without a message; NULL: never
    begun          INTEGER NOT NULL DEFAULT 0, -- whether its first turn was taken
    named_keys     INTEGER NOT NULL DEFAULT 1, -- whether idempotency keys have the activity's name
    last_sent_at   INTEGER,                -- of its newest message: the next one is never before it
    labels         TEXT NOT NULL DEFAULT '{}',
    input          TEXT,
    result         TEXT,
    error          TEXT,
    skipped        TEXT                    -- JSON array of [after, before]: events that `retry` undid
) STRICT;

CREATE UNIQUE INDEX runs_open ON runs (workflow_id) WHERE status = 'running';
-- Each ends with the key, as every index does: newest first without sorting.
CREATE INDEX runs_by_workflow_id ON runs (workflow_id);
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_workflow ON runs (workflow);
CREATE INDEX runs_by_chain ON runs (chain_id);
CREATE INDEX runs_by_age ON runs (created_at);
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'running' AND due_at IS NOT NULL;

CREATE TABLE events (
    run      INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    type     TEXT NOT NULL,
    time     INTEGER NOT NULL,             -- when it was applied
    at       INTEGER,                      -- when it happened outside
    started_at INTEGER,                    -- of an attempt that has ended
    seq      INTEGER,                      -- links a command to its answer
    name     TEXT,                         -- of the activity, signal or workflow
    data     TEXT,                         -- the other fields, without defaults
    payload  TEXT,                         -- arguments, result, signal payload or failure
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE waits (
    run      INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    seq      INTEGER NOT NULL,
    signal   TEXT NOT NULL,
    since    INTEGER NOT NULL,
    until    INTEGER,
    prompt   TEXT,
    expected TEXT,                         -- the payload's type, for people
    schema   TEXT,                         -- and for senders, as JSON schema
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX waits_by_signal ON waits (signal, since);
CREATE INDEX waits_by_age ON waits (since);

CREATE TABLE inbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    run         INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    kind        TEXT NOT NULL,             -- signal, cancel, attempt
    name        TEXT,
    payload     TEXT,
    sender      TEXT,
    message_key TEXT,
    sent_at     INTEGER NOT NULL
) STRICT;

CREATE INDEX inbox_by_run ON inbox (run);

CREATE TABLE message_keys (
    chain_id    TEXT NOT NULL,
    message_key TEXT NOT NULL,
    sent_at     INTEGER NOT NULL,
    PRIMARY KEY (chain_id, message_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE labels (
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    run   INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    PRIMARY KEY (name, value, run)
) STRICT, WITHOUT ROWID;

CREATE INDEX labels_by_run ON labels (run);

CREATE TABLE owners (
    id        TEXT PRIMARY KEY,
    pid       INTEGER NOT NULL,
    host      TEXT NOT NULL,
    boot_id   TEXT NOT NULL,
    since     INTEGER NOT NULL,
    socket    TEXT,
    role      TEXT NOT NULL,               -- worker: drives everything it knows; guest: its own
    workflows TEXT NOT NULL                -- JSON array of the names it knows
) STRICT, WITHOUT ROWID;

CREATE TABLE live (
    run         INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    owner       TEXT,
    owned_since INTEGER,
    problem     TEXT,
    progress    TEXT,
    open_at     INTEGER,                   -- up to this position of the history
    open_work   TEXT                       -- this was open; who looks reads on from there
) STRICT;

CREATE INDEX live_by_owner ON live (owner) WHERE owner IS NOT NULL;
CREATE INDEX live_problems ON live (run) WHERE problem IS NOT NULL;

CREATE TABLE heartbeats (
    run     INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    details TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (
    id       INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    time     INTEGER NOT NULL,
    level    INTEGER NOT NULL,             -- as in Python's logging: 10 DEBUG to 50 CRITICAL
    logger   TEXT NOT NULL,
    seq      INTEGER,                      -- of the activity that logged it; NULL: the workflow
    activity TEXT,
    attempt  INTEGER,
    message  TEXT NOT NULL                 -- with the traceback, if one was logged
) STRICT;

CREATE INDEX logs_by_run ON logs (run);

CREATE VIEW runs_view AS
SELECT r.workflow_id, r.run_id, r.workflow, r.status,
       CASE WHEN r.status <> 'running' THEN NULL
            WHEN l.problem IS NOT NULL THEN 'parked'
            WHEN l.owner IS NOT NULL THEN 'working'
            WHEN r.due_at <= strftime('%s', 'now') * 1000000
                 OR EXISTS (SELECT 1 FROM inbox i WHERE i.run = r.key) THEN 'due'
            ELSE 'waiting' END AS state,
       (SELECT group_concat(w.signal, ', ') FROM waits w WHERE w.run = r.key) AS waiting_for,
       json_extract(l.problem, '$.message') AS problem,
       r.input, r.result, json_extract(r.error, '$.message') AS error,
       strftime('%Y-%m-%dT%H:%M:%S', r.created_at / 1000000, 'unixepoch')
           || printf('.%06dZ', r.created_at % 1000000) AS created_at,
       strftime('%Y-%m-%dT%H:%M:%S', z.time / 1000000, 'unixepoch')
           || printf('.%06dZ', z.time % 1000000) AS updated_at,
       strftime('%Y-%m-%dT%H:%M:%S', r.closed_at / 1000000, 'unixepoch')
           || printf('.%06dZ', r.closed_at % 1000000) AS closed_at,
       strftime('%Y-%m-%dT%H:%M:%S', r.deadline / 1000000, 'unixepoch')
           || printf('.%06dZ', r.deadline % 1000000) AS deadline,
       strftime('%Y-%m-%dT%H:%M:%S', r.due_at / 1000000, 'unixepoch')
           || printf('.%06dZ', r.due_at % 1000000) AS due_at,
       o.pid AS owner_pid, o.host AS owner_host, l.progress, r.labels,
       z.position AS history_length
FROM runs r
LEFT JOIN events z ON z.run = r.key
    AND z.position = (SELECT max(position) FROM events WHERE run = r.key)
LEFT JOIN live l ON l.run = r.key
LEFT JOIN owners o ON o.id = l.owner;

CREATE VIEW logs_view AS
SELECT r.workflow_id, g.level, g.activity, g.attempt, g.message, g.logger,
       strftime('%Y-%m-%dT%H:%M:%S', g.time / 1000000, 'unixepoch')
           || printf('.%06dZ', g.time % 1000000) AS time, r.run_id
FROM logs g JOIN runs r ON r.key = g.run
ORDER BY g.id;

CREATE VIEW waiting_view AS
SELECT r.workflow_id, w.signal, w.prompt, w.expected,
       strftime('%Y-%m-%dT%H:%M:%S', w.since / 1000000, 'unixepoch')
           || printf('.%06dZ', w.since % 1000000) AS since,
       strftime('%Y-%m-%dT%H:%M:%S', w.until / 1000000, 'unixepoch')
           || printf('.%06dZ', w.until % 1000000) AS until,
       r.workflow, r.run_id
FROM waits w JOIN runs r ON r.key = w.run
ORDER BY w.since;

CREATE VIEW events_view AS
SELECT r.workflow_id, r.run_id, e.position, e.type,
       strftime('%Y-%m-%dT%H:%M:%S', e.time / 1000000, 'unixepoch')
           || printf('.%06dZ', e.time % 1000000) AS time,
       strftime('%Y-%m-%dT%H:%M:%S', e.at / 1000000, 'unixepoch')
           || printf('.%06dZ', e.at % 1000000) AS at,
       strftime('%Y-%m-%dT%H:%M:%S', e.started_at / 1000000, 'unixepoch')
           || printf('.%06dZ', e.started_at % 1000000) AS started_at,
       e.seq, e.name, e.payload, e.data,
       NOT EXISTS (SELECT 1 FROM json_each(r.skipped) s
           WHERE e.position > json_extract(s.value, '$[0]')
           AND e.position < json_extract(s.value, '$[1]')) AS counts
FROM events e JOIN runs r ON r.key = e.run;

CREATE VIEW activities_view AS
SELECT r.workflow_id, r.run_id, a.seq, a.activity,
       CASE a.ended WHEN 'ActivityCompleted' THEN 'completed' WHEN 'ActivityFailed' THEN 'failed'
           WHEN 'ActivityTimedOut' THEN 'timed_out' WHEN 'ActivityCancelRequested' THEN 'cancelled'
           ELSE CASE WHEN r.status = 'running' THEN 'open' ELSE 'abandoned' END END AS state,
       a.failed_attempts + a.interrupted_attempts
           + (a.ended IS NULL OR a.ended <> 'ActivityCancelRequested') AS attempts,
       a.arguments, a.outcome,
       strftime('%Y-%m-%dT%H:%M:%S', a.scheduled_at / 1000000, 'unixepoch')
           || printf('.%06dZ', a.scheduled_at % 1000000) AS scheduled_at,
       strftime('%Y-%m-%dT%H:%M:%S', a.ended_at / 1000000, 'unixepoch')
           || printf('.%06dZ', a.ended_at % 1000000) AS ended_at
FROM (
    SELECT run, seq,
           max(name) FILTER (WHERE type = 'ActivityScheduled') AS activity,
           max(payload) FILTER (WHERE type = 'ActivityScheduled') AS arguments,
           max(time) FILTER (WHERE type = 'ActivityScheduled') AS scheduled_at,
           max(type) FILTER (WHERE type IN ('ActivityCompleted', 'ActivityFailed',
               'ActivityTimedOut', 'ActivityCancelRequested')) AS ended,
           max(time) FILTER (WHERE type IN ('ActivityCompleted', 'ActivityFailed',
               'ActivityTimedOut', 'ActivityCancelRequested')) AS ended_at,
           max(payload) FILTER (WHERE type IN ('ActivityCompleted', 'ActivityFailed',
               'ActivityTimedOut')) AS outcome,
           count(*) FILTER (WHERE type = 'AttemptFailed') AS failed_attempts,
           count(*) FILTER (WHERE type = 'AttemptInterrupted') AS interrupted_attempts
    FROM events e JOIN runs q ON q.key = e.run
    WHERE seq IS NOT NULL AND (type LIKE 'Activity%' OR type LIKE 'Attempt%')
        AND NOT EXISTS (SELECT 1 FROM json_each(q.skipped) s
            WHERE e.position > json_extract(s.value, '$[0]')
            AND e.position < json_extract(s.value, '$[1]'))
    GROUP BY run, seq
) a
JOIN runs r ON r.key = a.run;
