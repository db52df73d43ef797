-- A journal that version 1 has written.
BEGIN TRANSACTION;
CREATE TABLE attachments (
    attachment_id TEXT PRIMARY KEY,
    volume_id TEXT,
    connection_key TEXT NOT NULL,
    connection TEXT NOT NULL,   -- JSON, without secrets
    wwn TEXT,                   -- required from then on
    state TEXT NOT NULL,
    device TEXT,                -- JSON
    last_request TEXT NOT NULL,
    boot_id TEXT NOT NULL,      -- its devices live until the next boot
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
INSERT INTO "attachments" VALUES('attachment','volume','iscsi single …','{"is": "the connection"}',NULL,'attached',NULL,'finished','boot','2026-11-23T02:27:40.740782Z','2026-11-23T02:27:40.740806Z');
CREATE TABLE claims (
    attachment_id TEXT NOT NULL,
    portal TEXT NOT NULL,
    name TEXT NOT NULL,
    lun TEXT NOT NULL,
    made_device INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (portal, name, lun, attachment_id)
) STRICT;
INSERT INTO "claims" VALUES('attachment','192.0.2.1:3260','iqn.2026-01.example:one','1',1);
CREATE TABLE requests (
    request_id TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    attachment_id TEXT NOT NULL,
    digest TEXT NOT NULL,       -- of the content, without credentials
    body TEXT NOT NULL,         -- JSON, without secrets
    sealed BLOB,                -- secrets, while unfinished
    reply_to TEXT,              -- JSON; NULL if nobody waits for a cast
    boot_id TEXT NOT NULL,
    accepted REAL NOT NULL,     -- seconds since boot
    deadline REAL NOT NULL,     -- seconds since boot
    attempts INTEGER NOT NULL DEFAULT 0,
    result TEXT,                -- JSON; NULL while unfinished
    delivered INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    finished_at TEXT
) STRICT;
INSERT INTO "requests" VALUES('unfinished','detach','attachment','0913fc090322fc38c67b024e6f1bf9c9fefe4cf49c5678fa5370e33dede772d0','{"versioned_object.name": "DetachRequest", "versioned_object.namespace": "attachworker", "versioned_object.version": "1.0", "versioned_object.data": {"request_id": "unfinished", "attachment_id": "attachment", "connection_info": null, "force": false, "deadline_seconds": null, "reply_to": null}}',NULL,'{"exchange": "e", "topic": "t", "server": "s"}','boot',12.5,72.5,0,NULL,0,'2026-11-23T02:27:40.723576Z',NULL);
INSERT INTO "requests" VALUES('finished','attach','attachment','digest','{"is": "the body"}',NULL,NULL,'boot',12.5,72.5,0,'{"is": "the result"}',0,'2026-11-23T02:27:40.730351Z','2026-11-23T02:27:40.740573Z');
CREATE TABLE sessions (
    portal TEXT NOT NULL,
    name TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    after INTEGER NOT NULL,     -- the last number before our login
    number INTEGER,             -- NULL until the login has succeeded
    PRIMARY KEY (portal, name)
) STRICT;
CREATE INDEX requests_unfinished ON requests (result) WHERE result IS NULL;
COMMIT;
PRAGMA user_version = 1;
