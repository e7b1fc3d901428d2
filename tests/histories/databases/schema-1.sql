PRAGMA application_id = 1651992183;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'belugawf','m001_initial','2026-11-26 20:04:25.709866+00:00');
CREATE TABLE events (
    run      INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    type     TEXT NOT NULL,
    time     TEXT NOT NULL,
    seq      INTEGER,                      -- links a command to its answer
    name     TEXT,                         -- of the activity, signal or workflow
    payload  TEXT,                         -- arguments, result, signal payload or failure
    data     TEXT,                         -- the other fields, without defaults
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;
INSERT INTO "events" VALUES(1,1,'WorkflowStarted','2026-11-26T20:04:25.727876Z',NULL,'waits',NULL,'{"workflow_id":"waits","run_id":"7829d5ed-919d-425f-9fff-83f9b9808586","python":"3.11.7","belugawf":"0.1.0"}');
INSERT INTO "events" VALUES(1,2,'ActivityScheduled','2026-11-26T20:04:25.752240Z',1,'echo','["before"]',NULL);
INSERT INTO "events" VALUES(1,3,'ActivityCompleted','2026-11-26T20:04:25.759441Z',1,NULL,'"before"','{"at":"2026-11-26T20:04:25.759406Z","started_at":"2026-11-26T20:04:25.759145Z"}');
INSERT INTO "events" VALUES(1,4,'WaitStarted','2026-11-26T20:04:25.759441Z',2,'a',NULL,'{"until":"2026-12-06T20:04:25.759441Z","prompt":"May it?","expected":"bool","schema":"{\"type\":\"boolean\"}"}');
INSERT INTO "events" VALUES(1,5,'TimerStarted','2026-11-26T20:04:25.759441Z',3,NULL,NULL,'{"delay":"10d","due_at":"2026-12-06T20:04:25.759441Z"}');
INSERT INTO "events" VALUES(1,6,'WaitStarted','2026-11-26T20:04:25.759441Z',4,'b',NULL,NULL);
INSERT INTO "events" VALUES(1,7,'TimerStarted','2026-11-26T20:04:25.759441Z',5,NULL,NULL,'{"delay":"100d","due_at":"2027-03-06T20:04:25.759441Z"}');
INSERT INTO "events" VALUES(2,1,'WorkflowStarted','2026-11-26T20:04:25.781402Z',NULL,'waits_for_its_retry',NULL,'{"workflow_id":"waits_for_its_retry","run_id":"77a0da42-50a6-4886-942e-d18ef784b634","python":"3.11.7","belugawf":"0.1.0"}');
INSERT INTO "events" VALUES(2,2,'ActivityScheduled','2026-11-26T20:04:25.811550Z',1,'works_at_last','[2]','{"max_attempts":5,"initial_delay":"1h","max_delay":"4d4h"}');
INSERT INTO "events" VALUES(2,3,'AttemptFailed','2026-11-26T20:04:25.824345Z',1,NULL,'{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}','{"at":"2026-11-26T20:04:25.824288Z","attempt":1,"retry_at":"2026-11-26T21:04:25.824288Z","started_at":"2026-11-26T20:04:25.823223Z"}');
INSERT INTO "events" VALUES(3,1,'WorkflowStarted','2026-11-26T20:04:25.853186Z',NULL,'signals',NULL,'{"workflow_id":"signals","run_id":"e5ab0a43-4126-494e-bc70-fa4a2aa1abc5","python":"3.11.7","belugawf":"0.1.0"}');
INSERT INTO "events" VALUES(3,2,'WaitStarted','2026-11-26T20:04:25.883499Z',1,'a',NULL,'{"prompt":"Yes?","expected":"Answer {yes: bool, note?: str}","schema":"{\"type\":\"object\",\"title\":\"Answer\",\"properties\":{\"yes\":{\"type\":\"boolean\"},\"note\":{\"type\":\"string\"}},\"additionalProperties\":false,\"required\":[\"yes\"]}"}');
INSERT INTO "events" VALUES(4,1,'WorkflowStarted','2026-11-26T20:04:25.913093Z',NULL,'retries',NULL,'{"workflow_id":"retries","run_id":"3d67427e-7d74-46d5-b336-5426dacd3524","python":"3.11.7","belugawf":"0.1.0"}');
INSERT INTO "events" VALUES(4,2,'ActivityScheduled','2026-11-26T20:04:25.935433Z',1,'works_at_last','[3]','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}');
INSERT INTO "events" VALUES(4,3,'AttemptFailed','2026-11-26T20:04:25.943588Z',1,NULL,'{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}','{"at":"2026-11-26T20:04:25.943555Z","attempt":1,"retry_at":"2026-11-26T20:04:25.944555Z","started_at":"2026-11-26T20:04:25.943138Z"}');
INSERT INTO "events" VALUES(4,4,'AttemptStarted','2026-11-26T20:04:25.947362Z',1,NULL,NULL,'{"attempt":2}');
INSERT INTO "events" VALUES(4,5,'AttemptFailed','2026-11-26T20:04:25.951528Z',1,NULL,'{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}','{"at":"2026-11-26T20:04:25.951466Z","attempt":2,"retry_at":"2026-11-26T20:04:25.953466Z","started_at":"2026-11-26T20:04:25.951110Z"}');
INSERT INTO "events" VALUES(4,6,'AttemptStarted','2026-11-26T20:04:25.955255Z',1,NULL,NULL,'{"attempt":3}');
INSERT INTO "events" VALUES(4,7,'ActivityCompleted','2026-11-26T20:04:25.959493Z',1,NULL,'3','{"at":"2026-11-26T20:04:25.959435Z","attempt":3,"started_at":"2026-11-26T20:04:25.959299Z"}');
INSERT INTO "events" VALUES(4,8,'ActivityScheduled','2026-11-26T20:04:25.959493Z',2,'works_at_last','[9]','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}');
INSERT INTO "events" VALUES(4,9,'AttemptFailed','2026-11-26T20:04:25.962223Z',2,NULL,'{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}','{"at":"2026-11-26T20:04:25.962197Z","attempt":1,"retry_at":"2026-11-26T20:04:25.963197Z","started_at":"2026-11-26T20:04:25.961864Z"}');
INSERT INTO "events" VALUES(4,10,'AttemptStarted','2026-11-26T20:04:25.965051Z',2,NULL,NULL,'{"attempt":2}');
INSERT INTO "events" VALUES(4,11,'AttemptFailed','2026-11-26T20:04:25.975580Z',2,NULL,'{"type":"ConnectionError","message":"not yet","traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}','{"at":"2026-11-26T20:04:25.975526Z","attempt":2,"retry_at":"2026-11-26T20:04:25.977526Z","started_at":"2026-11-26T20:04:25.975194Z"}');
INSERT INTO "events" VALUES(4,12,'AttemptStarted','2026-11-26T20:04:25.983353Z',2,NULL,NULL,'{"attempt":3}');
INSERT INTO "events" VALUES(4,13,'ActivityFailed','2026-11-26T20:04:25.988403Z',2,NULL,'{"type":"ConnectionError","message":"not yet","activity":"works_at_last","attempts":3,"traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 44, in works_at_last\n    raise ConnectionError(\"not yet\")\nConnectionError: not yet"}','{"at":"2026-11-26T20:04:25.988341Z","attempt":3,"started_at":"2026-11-26T20:04:25.988013Z"}');
INSERT INTO "events" VALUES(4,14,'ActivityScheduled','2026-11-26T20:04:25.988403Z',3,'refuses','[]','{"max_attempts":3,"initial_delay":"1ms","max_delay":"100ms"}');
INSERT INTO "events" VALUES(4,15,'ActivityFailed','2026-11-26T20:04:25.991723Z',3,NULL,'{"type":"Never","message":"never","activity":"refuses","attempts":1,"non_retryable":true,"traceback":"Traceback (most recent call last):\n  File \"tests/histories/features.py\", line 50, in refuses\n    raise ApplicationError(\"never\", type=\"Never\", non_retryable=True)\nbelugawf.model.errors.ApplicationError: never"}','{"at":"2026-11-26T20:04:25.991698Z","started_at":"2026-11-26T20:04:25.991347Z"}');
INSERT INTO "events" VALUES(4,16,'WorkflowCompleted','2026-11-26T20:04:25.991723Z',NULL,NULL,'[3,[3,"ConnectionError","not yet"],[1,"Never","never"]]',NULL);
INSERT INTO "events" VALUES(5,1,'WorkflowStarted','2026-11-26T20:04:26.017126Z',NULL,'cleans_up',NULL,'{"workflow_id":"cleans_up","run_id":"1fdbecd1-d2f9-4ffc-a103-c83c9abf7cd7","python":"3.11.7","belugawf":"0.1.0"}');
INSERT INTO "events" VALUES(5,2,'WaitStarted','2026-11-26T20:04:26.039487Z',1,'never',NULL,NULL);
INSERT INTO "events" VALUES(5,3,'CancelRequested','2026-11-26T20:04:26.084118Z',NULL,NULL,NULL,'{"at":"2026-11-26T20:04:26.065521Z","reason":"no longer needed"}');
INSERT INTO "events" VALUES(5,4,'WaitEnded','2026-11-26T20:04:26.084118Z',1,NULL,NULL,'{"outcome":"cancelled"}');
INSERT INTO "events" VALUES(5,5,'ActivityScheduled','2026-11-26T20:04:26.084118Z',2,'echo','["cleaned up"]',NULL);
INSERT INTO "events" VALUES(5,6,'ActivityCompleted','2026-11-26T20:04:26.095301Z',2,NULL,'"cleaned up"','{"at":"2026-11-26T20:04:26.095277Z","started_at":"2026-11-26T20:04:26.095138Z"}');
INSERT INTO "events" VALUES(5,7,'WorkflowCancelled','2026-11-26T20:04:26.095301Z',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(6,1,'WorkflowStarted','2026-11-26T20:04:26.125056Z',NULL,'waits',NULL,'{"workflow_id":"labelled","run_id":"709e5499-a9bc-47da-a977-e6ab4938957e","python":"3.11.7","belugawf":"0.1.0"}');
CREATE TABLE heartbeats (
    run     INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    details TEXT NOT NULL,
    at      TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO "heartbeats" VALUES(2,1,'{"page": 7}','2026-11-26T20:04:25.781402Z');
CREATE TABLE inbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    run         INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    kind        TEXT NOT NULL,             -- signal, cancel
    name        TEXT,
    payload     TEXT,
    sender      TEXT,
    message_key TEXT,
    sent_at     TEXT NOT NULL
) STRICT;
INSERT INTO "inbox" VALUES(2,1,'signal','a','true',NULL,NULL,'2026-11-26T20:04:26.136093Z');
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
    owned_since TEXT,
    problem     TEXT,
    progress    TEXT
) STRICT;
INSERT INTO "live" VALUES(1,NULL,NULL,NULL,NULL);
INSERT INTO "live" VALUES(2,NULL,NULL,NULL,NULL);
INSERT INTO "live" VALUES(3,NULL,NULL,NULL,NULL);
INSERT INTO "live" VALUES(6,NULL,NULL,NULL,NULL);
CREATE TABLE message_keys (
    chain_id    TEXT NOT NULL,
    message_key TEXT NOT NULL,
    sent_at     TEXT NOT NULL,
    PRIMARY KEY (chain_id, message_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE owners (
    id        TEXT PRIMARY KEY,
    pid       INTEGER NOT NULL,
    host      TEXT NOT NULL,
    boot_id   TEXT NOT NULL,
    since     TEXT NOT NULL,
    socket    TEXT,
    role      TEXT NOT NULL,               -- worker: drives everything it knows; guest: its own
    workflows TEXT NOT NULL                -- JSON array of the names it knows
) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
    key            INTEGER PRIMARY KEY,
    run_id         TEXT NOT NULL UNIQUE,
    workflow_id    TEXT NOT NULL,
    chain_id       TEXT NOT NULL,          -- run_id of the first run of its chain
    parent_run_id  TEXT,
    parent_close   TEXT,
    workflow       TEXT NOT NULL,
    status         TEXT NOT NULL DEFAULT 'running' CHECK (status IN (
                       'running', 'completed', 'failed', 'cancelled', 'terminated', 'timed_out',
                       'continued_as_new')),
    input          TEXT,
    result         TEXT,
    error          TEXT,
    labels         TEXT NOT NULL DEFAULT '{}',
    created_at     TEXT NOT NULL,
    updated_at     TEXT NOT NULL,
    closed_at      TEXT,
    deadline       TEXT,
    due_at         TEXT,                   -- when it can move without a message; NULL: never
    begun          INTEGER NOT NULL DEFAULT 0, -- whether its first turn was taken
    history_length INTEGER NOT NULL,
    last_sent_at   TEXT                    -- of its newest message: the next one is never before it
) STRICT;
INSERT INTO "runs" VALUES(1,'7829d5ed-919d-425f-9fff-83f9b9808586','waits','7829d5ed-919d-425f-9fff-83f9b9808586',NULL,NULL,'waits','running',NULL,NULL,NULL,'{}','2026-11-26T20:04:25.727876Z','2026-11-26T20:04:25.759441Z',NULL,NULL,'2026-12-06T20:04:25.759441Z',1,7,'2026-11-26T20:04:26.136093Z');
INSERT INTO "runs" VALUES(2,'77a0da42-50a6-4886-942e-d18ef784b634','waits_for_its_retry','77a0da42-50a6-4886-942e-d18ef784b634',NULL,NULL,'waits_for_its_retry','running',NULL,NULL,NULL,'{}','2026-11-26T20:04:25.781402Z','2026-11-26T20:04:25.824345Z',NULL,NULL,'2026-11-26T21:04:25.824288Z',1,3,NULL);
INSERT INTO "runs" VALUES(3,'e5ab0a43-4126-494e-bc70-fa4a2aa1abc5','signals','e5ab0a43-4126-494e-bc70-fa4a2aa1abc5',NULL,NULL,'signals','running',NULL,NULL,NULL,'{}','2026-11-26T20:04:25.853186Z','2026-11-26T20:04:25.883499Z',NULL,NULL,NULL,1,2,NULL);
INSERT INTO "runs" VALUES(4,'3d67427e-7d74-46d5-b336-5426dacd3524','retries','3d67427e-7d74-46d5-b336-5426dacd3524',NULL,NULL,'retries','completed',NULL,'[3,[3,"ConnectionError","not yet"],[1,"Never","never"]]',NULL,'{}','2026-11-26T20:04:25.913093Z','2026-11-26T20:04:25.991723Z','2026-11-26T20:04:25.991723Z',NULL,NULL,1,16,NULL);
INSERT INTO "runs" VALUES(5,'1fdbecd1-d2f9-4ffc-a103-c83c9abf7cd7','cleans_up','1fdbecd1-d2f9-4ffc-a103-c83c9abf7cd7',NULL,NULL,'cleans_up','cancelled',NULL,NULL,NULL,'{}','2026-11-26T20:04:26.017126Z','2026-11-26T20:04:26.095301Z','2026-11-26T20:04:26.095301Z',NULL,NULL,1,7,'2026-11-26T20:04:26.065521Z');
INSERT INTO "runs" VALUES(6,'709e5499-a9bc-47da-a977-e6ab4938957e','labelled','709e5499-a9bc-47da-a977-e6ab4938957e',NULL,NULL,'waits','running',NULL,NULL,NULL,'{"team": "a"}','2026-11-26T20:04:26.125056Z','2026-11-26T20:04:26.125056Z',NULL,NULL,'2026-11-26T20:04:26.125056Z',0,1,NULL);
CREATE TABLE waits (
    run      INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    seq      INTEGER NOT NULL,
    signal   TEXT NOT NULL,
    since    TEXT NOT NULL,
    until    TEXT,
    prompt   TEXT,
    expected TEXT,                         -- the payload's type, for people
    schema   TEXT,                         -- and for senders, as JSON schema
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO "waits" VALUES(1,2,'a','2026-11-26T20:04:25.759441Z','2026-12-06T20:04:25.759441Z','May it?','bool','{"type":"boolean"}');
INSERT INTO "waits" VALUES(1,4,'b','2026-11-26T20:04:25.759441Z',NULL,NULL,NULL,NULL);
INSERT INTO "waits" VALUES(3,1,'a','2026-11-26T20:04:25.883499Z',NULL,'Yes?','Answer {yes: bool, note?: str}','{"type":"object","title":"Answer","properties":{"yes":{"type":"boolean"},"note":{"type":"string"}},"additionalProperties":false,"required":["yes"]}');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX runs_open ON runs (workflow_id) WHERE status = 'running';
CREATE INDEX runs_by_workflow_id ON runs (workflow_id, key);
CREATE INDEX runs_by_status ON runs (status, key);
CREATE INDEX runs_by_workflow ON runs (workflow, key);
CREATE INDEX runs_by_chain ON runs (chain_id);
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'running' AND due_at IS NOT NULL;
CREATE INDEX waits_by_signal ON waits (signal, since);
CREATE INDEX waits_by_age ON waits (since);
CREATE INDEX inbox_by_run ON inbox (run);
CREATE INDEX labels_by_run ON labels (run);
CREATE INDEX live_by_owner ON live (owner) WHERE owner IS NOT NULL;
CREATE INDEX live_problems ON live (run) WHERE problem IS NOT NULL;
CREATE VIEW runs_view AS
SELECT r.workflow_id, r.run_id, r.workflow, r.status,
       (SELECT group_concat(w.signal, ', ') FROM waits w WHERE w.run = r.key) AS waiting_for,
       json_extract(l.problem, '$.message') AS problem,
       r.input, r.result, json_extract(r.error, '$.message') AS error,
       r.created_at, r.updated_at, r.closed_at, r.deadline, r.due_at,
       o.pid AS owner_pid, o.host AS owner_host, l.progress, r.labels, r.history_length
FROM runs r
LEFT JOIN live l ON l.run = r.key
LEFT JOIN owners o ON o.id = l.owner;
CREATE VIEW waiting_view AS
SELECT r.workflow_id, w.signal, w.prompt, w.expected, w.since, w.until, r.workflow, r.run_id
FROM waits w JOIN runs r ON r.key = w.run
ORDER BY w.since;
CREATE VIEW events_view AS
SELECT r.workflow_id, r.run_id, e.position, e.type, e.time, e.seq, e.name, e.payload, e.data
FROM events e JOIN runs r ON r.key = e.run;
CREATE VIEW activities_view AS
SELECT r.workflow_id, r.run_id, a.seq, a.activity,
       CASE a.ended WHEN 'ActivityCompleted' THEN 'completed' WHEN 'ActivityFailed' THEN 'failed'
           WHEN 'ActivityTimedOut' THEN 'timed_out' WHEN 'ActivityCancelRequested' THEN 'cancelled'
           ELSE CASE WHEN r.status = 'running' THEN 'open' ELSE 'abandoned' END END AS state,
       a.failed_attempts + a.interrupted_attempts
           + (a.ended IS NULL OR a.ended <> 'ActivityCancelRequested') AS attempts,
       a.arguments, a.outcome, a.scheduled_at, a.ended_at
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
    FROM events
    WHERE seq IS NOT NULL AND (type LIKE 'Activity%' OR type LIKE 'Attempt%')
    GROUP BY run, seq
) a
JOIN runs r ON r.key = a.run;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('inbox',2);
COMMIT;
