PRAGMA application_id = 1667785076;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE conversations (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO "conversations" VALUES(1,'g:club');
INSERT INTO "conversations" VALUES(2,'g:empty');
INSERT INTO "conversations" VALUES(3,'u:ann@example.org bob@example.org');
INSERT INTO "conversations" VALUES(4,'u:ann@example.org ann@example.org');
INSERT INTO "conversations" VALUES(5,'u:bob@example.org erased-1a2b@erased.invalid');
CREATE TABLE groups (
        conversation  INTEGER PRIMARY KEY,
        name          TEXT NOT NULL UNIQUE,
        title         TEXT,
        created_by    TEXT NOT NULL,
        created_at    INTEGER NOT NULL,
        members       INTEGER NOT NULL,
        messages      INTEGER NOT NULL,
        members_rank  INTEGER AS (-members),
        messages_rank INTEGER AS (-messages)
    ) STRICT
    ;
INSERT INTO "groups" VALUES(1,'club','The “Club”','ann@example.org',2,2,30);
INSERT INTO "groups" VALUES(2,'empty',NULL,'cat@example.org',3,1,0);
CREATE TABLE marks (
        conversation   INTEGER NOT NULL,
        user           TEXT NOT NULL,
        joined_at      INTEGER NOT NULL,
        delivered_seq  INTEGER NOT NULL,
        read_seq       INTEGER NOT NULL,
        own_after_read INTEGER NOT NULL,
        PRIMARY KEY (conversation, user)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "marks" VALUES(1,'bob@example.org',3,20,0,8);
INSERT INTO "marks" VALUES(1,'cat@example.org',4,0,0,0);
INSERT INTO "marks" VALUES(2,'cat@example.org',3,0,0,0);
INSERT INTO "marks" VALUES(3,'ann@example.org',30,0,0,1);
INSERT INTO "marks" VALUES(3,'bob@example.org',30,1,1,2);
INSERT INTO "marks" VALUES(4,'ann@example.org',33,0,0,1);
INSERT INTO "marks" VALUES(5,'bob@example.org',34,0,0,0);
INSERT INTO "marks" VALUES(5,'erased-1a2b@erased.invalid',34,0,0,1);
CREATE TABLE messages (
        conversation INTEGER NOT NULL,
        seq          INTEGER NOT NULL,
        id           TEXT NOT NULL,
        sender       TEXT NOT NULL,
        text         TEXT NOT NULL,
        sent_at      INTEGER NOT NULL,
        client_id    TEXT,
        delivered_at INTEGER,
        read_at      INTEGER,
        PRIMARY KEY (conversation, seq)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "messages" VALUES(1,6,'message-5','erased-1a2b@erased.invalid','',5,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,7,'message-6','ann@example.org','text 6: it''s “a” \ line,
then ''another'' 👋',6,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,8,'message-7','bob@example.org','text 7: it''s “a” \ line,
then ''another'' 👋',7,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,9,'message-8','erased-1a2b@erased.invalid','',8,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,10,'message-9','ann@example.org','text 9: it''s “a” \ line,
then ''another'' 👋',9,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,11,'message-10','bob@example.org','text 10: it''s “a” \ line,
then ''another'' 👋',10,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,12,'message-11','erased-1a2b@erased.invalid','',11,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,13,'message-12','ann@example.org','text 12: it''s “a” \ line,
then ''another'' 👋',12,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,14,'message-13','bob@example.org','text 13: it''s “a” \ line,
then ''another'' 👋',13,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,15,'message-14','erased-1a2b@erased.invalid','',14,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,16,'message-15','ann@example.org','text 15: it''s “a” \ line,
then ''another'' 👋',15,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,17,'message-16','bob@example.org','text 16: it''s “a” \ line,
then ''another'' 👋',16,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,18,'message-17','erased-1a2b@erased.invalid','',17,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,19,'message-18','ann@example.org','text 18: it''s “a” \ line,
then ''another'' 👋',18,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,20,'message-19','bob@example.org','text 19: it''s “a” \ line,
then ''another'' 👋',19,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,21,'message-20','erased-1a2b@erased.invalid','',20,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,22,'message-21','ann@example.org','text 21: it''s “a” \ line,
then ''another'' 👋',21,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,23,'message-22','bob@example.org','text 22: it''s “a” \ line,
then ''another'' 👋',22,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,24,'message-23','erased-1a2b@erased.invalid','',23,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,25,'message-24','ann@example.org','text 24: it''s “a” \ line,
then ''another'' 👋',24,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,26,'message-25','bob@example.org','text 25: it''s “a” \ line,
then ''another'' 👋',25,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,27,'message-26','erased-1a2b@erased.invalid','',26,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,28,'message-27','ann@example.org','text 27: it''s “a” \ line,
then ''another'' 👋',27,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,29,'message-28','bob@example.org','text 28: it''s “a” \ line,
then ''another'' 👋',28,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(1,30,'message-29','erased-1a2b@erased.invalid','',29,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(3,1,'message-30','ann@example.org','text 30: it''s “a” \ line,
then ''another'' 👋',30,'client-1',60,60);
INSERT INTO "messages" VALUES(3,2,'message-31','bob@example.org','text 31: it''s “a” \ line,
then ''another'' 👋',31,'client-1',NULL,NULL);
INSERT INTO "messages" VALUES(3,3,'message-32','bob@example.org','text 32: it''s “a” \ line,
then ''another'' 👋',32,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(4,1,'message-33','ann@example.org','text 33: it''s “a” \ line,
then ''another'' 👋',33,NULL,NULL,NULL);
INSERT INTO "messages" VALUES(5,1,'message-34','erased-1a2b@erased.invalid','text 34: it''s “a” \ line,
then ''another'' 👋',34,NULL,NULL,NULL);
CREATE TABLE revoked_tokens (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL)
    STRICT, WITHOUT ROWID
    ;
INSERT INTO "revoked_tokens" VALUES('token',50);
CREATE TABLE store (epoch TEXT NOT NULL, pings INTEGER NOT NULL) STRICT;
INSERT INTO "store" VALUES('53edaadfacd9b76a',0);
CREATE TABLE users (
        email         TEXT PRIMARY KEY,
        id            TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        created_at    INTEGER NOT NULL,
        generation    INTEGER NOT NULL,
        last_seen_at  INTEGER
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "users" VALUES('ann@example.org','1','hash 1',1,0,7);
INSERT INTO "users" VALUES('bob@example.org','2','hash 2',2,0,NULL);
INSERT INTO "users" VALUES('cat@example.org','3','!hash 3',3,2,NULL);
INSERT INTO "users" VALUES('erased-1a2b@erased.invalid','4','!',9,0,NULL);
CREATE INDEX groups_by_members ON groups (members_rank, name);
CREATE INDEX groups_by_messages ON groups (messages_rank, name);
CREATE UNIQUE INDEX messages_by_id ON messages (id);
CREATE UNIQUE INDEX messages_by_client_id ON messages (client_id, sender)
    WHERE client_id IS NOT NULL
    ;
CREATE INDEX marks_by_user ON marks (user);
CREATE INDEX revoked_tokens_by_expiry ON revoked_tokens (expires_at);
COMMIT;
