PRAGMA application_id = 1651992183;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'belugawf','m001_initial','2026-11-29 11:46:52.090402+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'belugawf','m002_integer_times','2026-11-29 11:46:52.090660+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'belugawf','m003_logs_and_retries','2026-11-29 11:46:52.090804+00:00');
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
INSERT INTO "events" VALUES(1,1,'WorkflowStarted',1795952812095752,NULL,NULL,NULL,'waits','{"workflow_id":"waits","run_id":"90544b91-1f8f-4e05-9813-c1c250613043","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(1,2,'ActivityScheduled',1795952812115643,NULL,NULL,1,'echo',NULL,'["before"]');
INSERT INTO "events" VALUES(1,3,'ActivityCompleted',1795952812118610,1795952812118527,1795952812118423,1,NULL,NULL,'"before"');
INSERT INTO "events" VALUES(1,4,'WaitStarted',1795952812118610,NULL,NULL,2,'a','{"until":"2026-12-09T11:46:52.118610Z","prompt":"May it?","expected":"bool","schema":"{\"type\":\"boolean\"}"}',NULL);
INSERT INTO "events" VALUES(1,5,'TimerStarted',1795952812118610,NULL,NULL,3,NULL,'{"delay":"10d","due_at":"2026-12-09T11:46:52.118610Z"}',NULL);
INSERT INTO "events" VALUES(1,6,'WaitStarted',1795952812118610,NULL,NULL,4,'b',NULL,NULL);
INSERT INTO "events" VALUES(1,7,'TimerStarted',1795952812118610,NULL,NULL,5,NULL,'{"delay":"100d","due_at":"2027-03-09T11:46:52.118610Z"}',NULL);
INSERT INTO "events" VALUES(2,1,'WorkflowStarted',1795952812128221,NULL,NULL,NULL,'waits_for_its_retry','{"workflow_id":"waits_for_its_retry","run_id":"8387eb8a-451c-4c9a-962e-d9217f317eaf","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(2,2,'ActivityScheduled',1795952812132776,NULL,NULL,1,'works_at_last','{"max_attempts":5,"initial_delay":"1h","max_delay":"4d4h"}','[2]');
INSERT INTO "events" VALUES(2,3,'AttemptFailed',1795952812138368,1795952812137942,1795952812137437,1,NULL,'{"attempt":1,"retry_at":"2026-11-29T12:46:52.137942Z"}','{"type":"ConnectionError","message":"not yet","traceback":"StopIteration\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(3,1,'WorkflowStarted',1795952812146745,NULL,NULL,NULL,'signals','{"workflow_id":"signals","run_id":"98f55941-d719-4a29-a247-03bb19b82d9f","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(3,2,'WaitStarted',1795952812151680,NULL,NULL,1,'a','{"prompt":"Yes?","expected":"Answer {yes: bool, note?: str}","schema":"{\"type\":\"object\",\"title\":\"Answer\",\"properties\":{\"yes\":{\"type\":\"boolean\"},\"note\":{\"type\":\"string\"}},\"additionalProperties\":false,\"required\":[\"yes\"]}"}',NULL);
INSERT INTO "events" VALUES(4,1,'WorkflowStarted',1795952812162636,NULL,NULL,NULL,'retries','{"workflow_id":"retries","run_id":"ad369dad-e347-40c9-b594-2ca645de53ac","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(4,2,'ActivityScheduled',1795952812167386,NULL,NULL,1,'works_at_last','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}','[3]');
INSERT INTO "events" VALUES(4,3,'AttemptFailed',1795952812170103,1795952812170000,1795952812169645,1,NULL,'{"attempt":1,"retry_at":"2026-11-29T11:46:52.171000Z"}','{"type":"ConnectionError","message":"not yet","traceback":"StopIteration\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,4,'AttemptStarted',1795952812172139,NULL,NULL,1,NULL,'{"attempt":2}',NULL);
INSERT INTO "events" VALUES(4,5,'AttemptFailed',1795952812173003,1795952812172935,1795952812172690,1,NULL,'{"attempt":2,"retry_at":"2026-11-29T11:46:52.174935Z"}','{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,6,'AttemptStarted',1795952812175806,NULL,NULL,1,NULL,'{"attempt":3}',NULL);
INSERT INTO "events" VALUES(4,7,'ActivityCompleted',1795952812176813,1795952812176653,1795952812176449,1,NULL,'{"attempt":3}','3');
INSERT INTO "events" VALUES(4,8,'ActivityScheduled',1795952812176813,NULL,NULL,2,'works_at_last','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}','[9]');
INSERT INTO "events" VALUES(4,9,'AttemptFailed',1795952812177877,1795952812177816,1795952812177432,2,NULL,'{"attempt":1,"retry_at":"2026-11-29T11:46:52.178816Z"}','{"type":"ConnectionError","message":"not yet","traceback":"StopIteration\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,10,'AttemptStarted',1795952812179796,NULL,NULL,2,NULL,'{"attempt":2}',NULL);
INSERT INTO "events" VALUES(4,11,'AttemptFailed',1795952812180612,1795952812180557,1795952812180230,2,NULL,'{"attempt":2,"retry_at":"2026-11-29T11:46:52.182557Z"}','{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,12,'AttemptStarted',1795952812183444,NULL,NULL,2,NULL,'{"attempt":3}',NULL);
INSERT INTO "events" VALUES(4,13,'ActivityFailed',1795952812184166,1795952812184104,1795952812183848,2,NULL,'{"attempt":3}','{"type":"ConnectionError","message":"not yet","activity":"works_at_last","attempts":3,"traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}');
INSERT INTO "events" VALUES(4,14,'ActivityScheduled',1795952812184166,NULL,NULL,3,'refuses','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}','[]');
INSERT INTO "events" VALUES(4,15,'ActivityFailed',1795952812185631,1795952812185579,1795952812185396,3,NULL,NULL,'{"type":"Never","message":"never","activity":"refuses","attempts":1,"non_retryable":true,"traceback":"StopIteration\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"tests/histories/features.py\", line 50, in refuses\n    raise ApplicationError(\"never\", type=\"Never\", non_retryable=True)\nbelugawf.model.errors.ApplicationError: never"}');
INSERT INTO "events" VALUES(4,16,'WorkflowCompleted',1795952812185631,NULL,NULL,NULL,NULL,NULL,'[3,[3,"ConnectionError","not yet"],[1,"Never","never"]]');
INSERT INTO "events" VALUES(5,1,'WorkflowStarted',1795952812194121,NULL,NULL,NULL,'cleans_up','{"workflow_id":"cleans_up","run_id":"d7adaaca-602d-419a-8736-7ca41237aee6","python":"3.11.7","belugawf":"0.1.0"}',NULL);
INSERT INTO "events" VALUES(5,2,'WaitStarted',1795952812198971,NULL,NULL,1,'never',NULL,NULL);
INSERT INTO "events" VALUES(5,3,'CancelRequested',1795952812211406,1795952812205258,NULL,NULL,NULL,'{"reason":"no longer needed"}',NULL);
INSERT INTO "events" VALUES(5,4,'WaitEnded',1795952812211406,NULL,NULL,1,NULL,'{"outcome":"cancelled"}',NULL);
INSERT INTO "events" VALUES(5,5,'ActivityScheduled',1795952812211406,NULL,NULL,2,'echo',NULL,'["cleaned up"]');
INSERT INTO "events" VALUES(5,6,'ActivityCompleted',1795952812213891,1795952812213824,1795952812213730,2,NULL,NULL,'"cleaned up"');
INSERT INTO "events" VALUES(5,7,'WorkflowCancelled',1795952812213891,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(6,1,'WorkflowStarted',1795952812221354,NULL,NULL,NULL,'waits','{"workflow_id":"labelled","run_id":"2fa05ab7-6b86-40a4-afbb-f85a20f67824","python":"3.11.7","belugawf":"0.1.0"}',NULL);
CREATE TABLE heartbeats (
    run     INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    details TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO "heartbeats" VALUES(2,1,'{"page": 7}',1795952812128221);
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
INSERT INTO "inbox" VALUES(2,1,'signal','a','true',NULL,NULL,1795952812223442);
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
    named_keys     INTEGER NOT NULL DEFAULT 1, -- whether idempotency keys have the activity's name
    last_sent_at   INTEGER,                -- of its newest message: the next one is never before it
    labels         TEXT NOT NULL DEFAULT '{}',
    input          TEXT,
    result         TEXT,
    error          TEXT,
    skipped        TEXT                    -- JSON array of [after, before]: events that `retry` undid
) STRICT;
INSERT INTO "runs" VALUES(1,'90544b91-1f8f-4e05-9813-c1c250613043','waits','90544b91-1f8f-4e05-9813-c1c250613043',NULL,NULL,'waits','running',1795952812095752,NULL,NULL,1796816812118610,1,1,1795952812223442,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(2,'8387eb8a-451c-4c9a-962e-d9217f317eaf','waits_for_its_retry','8387eb8a-451c-4c9a-962e-d9217f317eaf',NULL,NULL,'waits_for_its_retry','running',1795952812128221,NULL,NULL,1795956412137942,1,1,NULL,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(3,'98f55941-d719-4a29-a247-03bb19b82d9f','signals','98f55941-d719-4a29-a247-03bb19b82d9f',NULL,NULL,'signals','running',1795952812146745,NULL,NULL,NULL,1,1,NULL,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(4,'ad369dad-e347-40c9-b594-2ca645de53ac','retries','ad369dad-e347-40c9-b594-2ca645de53ac',NULL,NULL,'retries','completed',1795952812162636,1795952812185631,NULL,NULL,1,1,NULL,'{}',NULL,'[3,[3,"ConnectionError","not yet"],[1,"Never","never"]]',NULL,NULL);
INSERT INTO "runs" VALUES(5,'d7adaaca-602d-419a-8736-7ca41237aee6','cleans_up','d7adaaca-602d-419a-8736-7ca41237aee6',NULL,NULL,'cleans_up','cancelled',1795952812194121,1795952812213891,NULL,NULL,1,1,1795952812205258,'{}',NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(6,'2fa05ab7-6b86-40a4-afbb-f85a20f67824','labelled','2fa05ab7-6b86-40a4-afbb-f85a20f67824',NULL,NULL,'waits','running',1795952812221354,NULL,NULL,1795952812221354,0,1,NULL,'{"team": "a"}',NULL,NULL,NULL,NULL);
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
INSERT INTO "waits" VALUES(1,2,'a',1795952812118610,1796816812118610,'May it?','bool','{"type":"boolean"}');
INSERT INTO "waits" VALUES(1,4,'b',1795952812118610,NULL,NULL,NULL,NULL);
INSERT INTO "waits" VALUES(3,1,'a',1795952812151680,NULL,'Yes?','Answer {yes: bool, note?: str}','{"type":"object","title":"Answer","properties":{"yes":{"type":"boolean"},"note":{"type":"string"}},"additionalProperties":false,"required":["yes"]}');
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
