PRAGMA application_id = 1651992183;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'belugawf','m001_initial','2026-11-29 11:29:49.494777+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'belugawf','m002_integer_times','2026-11-29 11:29:49.495015+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'belugawf','m003_logs_and_retries','2026-11-29 11:29:49.495161+00:00');
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
INSERT INTO "events" VALUES(1,1,'WorkflowStarted',1795951789500238,NULL,NULL,NULL,'waits','{"workflow_id":"waits","run_id":"5b331464-52b3-4306-88fe-9a946ae57470","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(1,2,'ActivityScheduled',1795951789515629,NULL,NULL,1,'echo',NULL,'["before"]');
INSERT INTO "events" VALUES(1,3,'ActivityCompleted',1795951789518131,1795951789518057,1795951789517967,1,NULL,NULL,'"before"');
INSERT INTO "events" VALUES(1,4,'WaitStarted',1795951789518131,NULL,NULL,2,'a','{"until":"2026-12-09T11:29:49.518131Z","prompt":"May it?","expected":"bool","schema":"{\"type\":\"boolean\"}"}',NULL);
INSERT INTO "events" VALUES(1,5,'TimerStarted',1795951789518131,NULL,NULL,3,NULL,'{"delay":"10d","due_at":"2026-12-09T11:29:49.518131Z"}',NULL);
INSERT INTO "events" VALUES(1,6,'WaitStarted',1795951789518131,NULL,NULL,4,'b',NULL,NULL);
INSERT INTO "events" VALUES(1,7,'TimerStarted',1795951789518131,NULL,NULL,5,NULL,'{"delay":"100d","due_at":"2027-03-09T11:29:49.518131Z"}',NULL);
INSERT INTO "events" VALUES(2,1,'WorkflowStarted',1795951789527041,NULL,NULL,NULL,'waits_for_its_retry','{"workflow_id":"waits_for_its_retry","run_id":"086a8280-929e-4cba-8351-a3fba339dafa","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(2,2,'ActivityScheduled',1795951789531424,NULL,NULL,1,'works_at_last','{"max_attempts":5,"initial_delay":"1h","max_delay":"4d4h"}','[2]');
INSERT INTO "events" VALUES(2,3,'AttemptFailed',1795951789534480,1795951789534003,1795951789533457,1,NULL,'{"attempt":1,"retry_at":"2026-11-29T12:29:49.534003Z"}','{"type":"ConnectionError","message":"not yet","traceback":"StopIteration\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(3,1,'WorkflowStarted',1795951789542851,NULL,NULL,NULL,'signals','{"workflow_id":"signals","run_id":"51566bca-9d86-49b1-aacc-dceb149d5120","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(3,2,'WaitStarted',1795951789546941,NULL,NULL,1,'a','{"prompt":"Yes?","expected":"Answer {yes: bool, note?: str}","schema":"{\"type\":\"object\",\"title\":\"Answer\",\"properties\":{\"yes\":{\"type\":\"boolean\"},\"note\":{\"type\":\"string\"}},\"additionalProperties\":false,\"required\":[\"yes\"]}"}',NULL);
INSERT INTO "events" VALUES(4,1,'WorkflowStarted',1795951789556240,NULL,NULL,NULL,'retries','{"workflow_id":"retries","run_id":"abd54155-6852-47b8-b022-0299585540a7","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(4,2,'ActivityScheduled',1795951789560578,NULL,NULL,1,'works_at_last','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}','[3]');
INSERT INTO "events" VALUES(4,3,'AttemptFailed',1795951789562891,1795951789562815,1795951789562514,1,NULL,'{"attempt":1,"retry_at":"2026-11-29T11:29:49.563815Z"}','{"type":"ConnectionError","message":"not yet","traceback":"StopIteration\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,4,'AttemptStarted',1795951789564739,NULL,NULL,1,NULL,'{"attempt":2}',NULL);
INSERT INTO "events" VALUES(4,5,'AttemptFailed',1795951789565474,1795951789565423,1795951789565227,1,NULL,'{"attempt":2,"retry_at":"2026-11-29T11:29:49.567423Z"}','{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,6,'AttemptStarted',1795951789568226,NULL,NULL,1,NULL,'{"attempt":3}',NULL);
INSERT INTO "events" VALUES(4,7,'ActivityCompleted',1795951789569139,1795951789568985,1795951789568793,1,NULL,'{"attempt":3}','3');
INSERT INTO "events" VALUES(4,8,'ActivityScheduled',1795951789569139,NULL,NULL,2,'works_at_last','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}','[9]');
INSERT INTO "events" VALUES(4,9,'AttemptFailed',1795951789570082,1795951789570031,1795951789569680,2,NULL,'{"attempt":1,"retry_at":"2026-11-29T11:29:49.571031Z"}','{"type":"ConnectionError","message":"not yet","traceback":"StopIteration\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,10,'AttemptStarted',1795951789571439,NULL,NULL,2,NULL,'{"attempt":2}',NULL);
INSERT INTO "events" VALUES(4,11,'AttemptFailed',1795951789575266,1795951789575152,1795951789574563,2,NULL,'{"attempt":2,"retry_at":"2026-11-29T11:29:49.577152Z"}','{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,12,'AttemptStarted',1795951789578411,NULL,NULL,2,NULL,'{"attempt":3}',NULL);
INSERT INTO "events" VALUES(4,13,'ActivityFailed',1795951789579176,1795951789579106,1795951789578823,2,NULL,'{"attempt":3}','{"type":"ConnectionError","message":"not yet","activity":"works_at_last","attempts":3,"traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,14,'ActivityScheduled',1795951789579176,NULL,NULL,3,'refuses','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}','[]');
INSERT INTO "events" VALUES(4,15,'ActivityFailed',1795951789580739,1795951789580687,1795951789580513,3,NULL,NULL,'{"type":"Never","message":"never","activity":"refuses","attempts":1,"non_retryable":true,"traceback":"StopIteration\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"tests/histories/features.py\", line 50, in refuses\n    raise ApplicationError(\"never\", type=\"Never\", non_retryable=True)\nbelugawf.model.errors.ApplicationError: never"}');
INSERT INTO "events" VALUES(4,16,'WorkflowCompleted',1795951789580739,NULL,NULL,NULL,NULL,NULL,'[3,[3,"ConnectionError","not yet"],[1,"Never","never"]]');
INSERT INTO "events" VALUES(5,1,'WorkflowStarted',1795951789588695,NULL,NULL,NULL,'cleans_up','{"workflow_id":"cleans_up","run_id":"a08f7bab-c553-4f6d-8992-536dd4ea4fad","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(5,2,'WaitStarted',1795951789593456,NULL,NULL,1,'never',NULL,NULL);
INSERT INTO "events" VALUES(5,3,'CancelRequested',1795951789605411,1795951789599353,NULL,NULL,NULL,'{"reason":"no longer needed"}',NULL);
INSERT INTO "events" VALUES(5,4,'WaitEnded',1795951789605411,NULL,NULL,1,NULL,'{"outcome":"cancelled"}',NULL);
INSERT INTO "events" VALUES(5,5,'ActivityScheduled',1795951789605411,NULL,NULL,2,'echo',NULL,'["cleaned up"]');
INSERT INTO "events" VALUES(5,6,'ActivityCompleted',1795951789609237,1795951789609165,1795951789609059,2,NULL,NULL,'"cleaned up"');
INSERT INTO "events" VALUES(5,7,'WorkflowCancelled',1795951789609237,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(6,1,'WorkflowStarted',1795951789617496,NULL,NULL,NULL,'waits','{"workflow_id":"labelled","run_id":"b365c836-2e93-4de6-a908-959bef21b6a9","python":"3.11.7","belugawf":"0.1.0"}',NULL);
CREATE TABLE heartbeats (
    run     INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    details TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO "heartbeats" VALUES(2,1,'{"page": 7}',1795951789527041);
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
INSERT INTO "inbox" VALUES(2,1,'signal','a','true',NULL,NULL,1795951789619240);
CREATE TABLE labels (
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    run   INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    PRIMARY KEY (name, value, run)
) STRICT, WITHOUT ROWID;
INSERT INTO "labels" VALUES('team','a',6);
CREATE TABLE live (
    run         INTEGER PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
    owner       TEXT,
    owned_since INTEGER,
    problem     TEXT,
    progress    TEXT,
    open_at     INTEGER,                   -- up to this position of the history
    open_work   TEXT                       -- this was open; who looks reads on from there
) STRICT;
INSERT INTO "live" VALUES(1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "live" VALUES(2,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "live" VALUES(3,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "live" VALUES(6,NULL,NULL,NULL,NULL,NULL,NULL);
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
CREATE TABLE message_keys (
    chain_id    TEXT NOT NULL,
    message_key TEXT NOT NULL,
    sent_at     INTEGER NOT NULL,
    PRIMARY KEY (chain_id, message_key)
) STRICT, WITHOUT ROWID;
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
    last_sent_at   INTEGER,                -- of its newest message: the next one is never before it
    labels         TEXT NOT NULL DEFAULT '{}',
    input          TEXT,
    result         TEXT,
    error          TEXT,
    skipped        TEXT                    -- JSON array of [after, before]: events that `retry` undid
) STRICT;
INSERT INTO "runs" VALUES(1,'5b331464-52b3-4306-88fe-9a946ae57470','waits','5b331464-52b3-4306-88fe-9a946ae57470',NULL,NULL,'waits','running',1795951789500238,NULL,NULL,1796815789518131,1,1795951789619240,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(2,'086a8280-929e-4cba-8351-a3fba339dafa','waits_for_its_retry','086a8280-929e-4cba-8351-a3fba339dafa',NULL,NULL,'waits_for_its_retry','running',1795951789527041,NULL,NULL,1795955389534003,1,NULL,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(3,'51566bca-9d86-49b1-aacc-dceb149d5120','signals','51566bca-9d86-49b1-aacc-dceb149d5120',NULL,NULL,'signals','running',1795951789542851,NULL,NULL,NULL,1,NULL,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(4,'abd54155-6852-47b8-b022-0299585540a7','retries','abd54155-6852-47b8-b022-0299585540a7',NULL,NULL,'retries','completed',1795951789556240,1795951789580739,NULL,NULL,1,NULL,'{}',NULL,'[3,[3,"ConnectionError","not yet"],[1,"Never","never"]]',NULL,NULL);
INSERT INTO "runs" VALUES(5,'a08f7bab-c553-4f6d-8992-536dd4ea4fad','cleans_up','a08f7bab-c553-4f6d-8992-536dd4ea4fad',NULL,NULL,'cleans_up','cancelled',1795951789588695,1795951789609237,NULL,NULL,1,1795951789599353,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(6,'b365c836-2e93-4de6-a908-959bef21b6a9','labelled','b365c836-2e93-4de6-a908-959bef21b6a9',NULL,NULL,'waits','running',1795951789617496,NULL,NULL,1795951789617496,0,NULL,'{"team": "a"}',NULL,NULL,NULL,NULL);
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
INSERT INTO "waits" VALUES(1,2,'a',1795951789518131,1796815789518131,'May it?','bool','{"type":"boolean"}');
INSERT INTO "waits" VALUES(1,4,'b',1795951789518131,NULL,NULL,NULL,NULL);
INSERT INTO "waits" VALUES(3,1,'a',1795951789546941,NULL,'Yes?','Answer {yes: bool, note?: str}','{"type":"object","title":"Answer","properties":{"yes":{"type":"boolean"},"note":{"type":"string"}},"additionalProperties":false,"required":["yes"]}');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX runs_open ON runs (workflow_id) WHERE status = 'running';
CREATE INDEX runs_by_workflow_id ON runs (workflow_id);
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_workflow ON runs (workflow);
CREATE INDEX runs_by_chain ON runs (chain_id);
CREATE INDEX runs_by_age ON runs (created_at);
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'running' AND due_at IS NOT NULL;
CREATE INDEX waits_by_signal ON waits (signal, since);
CREATE INDEX waits_by_age ON waits (since);
CREATE INDEX inbox_by_run ON inbox (run);
CREATE INDEX labels_by_run ON labels (run);
CREATE INDEX live_by_owner ON live (owner) WHERE owner IS NOT NULL;
CREATE INDEX live_problems ON live (run) WHERE problem IS NOT NULL;
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('runs',6);
INSERT INTO "sqlite_sequence" VALUES('inbox',2);
COMMIT;
