-- All that Roomcast keeps in Postgres. Every row is written by events of one shard only, so every
-- table begins with it (-1 is the system stream): a batch and its watermark stay on one node of a
-- distributed Postgres. The hot table has its primary key and nothing more.

-- Up to where each shard's log is in Postgres. It moves first in every transaction.
CREATE TABLE watermark (
    shard smallint NOT NULL PRIMARY KEY,
    seq bigint NOT NULL
);

-- A room as it was made: shard is always -1, id is the sequence of its creation.
CREATE TABLE room (
    shard smallint NOT NULL,
    id bigint NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    description text,
    private boolean NOT NULL,
    team bigint,
    creator text NOT NULL,
    active boolean NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (shard, id)
);

-- Who may enter a room.
CREATE TABLE room_member (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    user_id text NOT NULL,
    added_by text NOT NULL,
    PRIMARY KEY (shard, room, user_id)
);

-- Who is in a room, as each process that holds sockets says of its own: the highest counter is true.
-- An incarnation is 64 random bits, here as a signed number.
CREATE TABLE participant (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    user_id text NOT NULL,
    incarnation bigint NOT NULL,
    counter bigint NOT NULL,
    present boolean NOT NULL,
    PRIMARY KEY (shard, room, user_id, incarnation)
);

CREATE TABLE message (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    id bigint NOT NULL,
    author text NOT NULL,
    body text NOT NULL,
    client_id text,
    created_at timestamptz NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    PRIMARY KEY (shard, room, id)
);

-- What the host application says of people; keys that it never named are absent.
CREATE TABLE person (
    shard smallint NOT NULL,
    user_id text NOT NULL,
    profile jsonb NOT NULL,
    issued_at bigint NOT NULL,
    PRIMARY KEY (shard, user_id)
);

-- Events that could not be applied, whole: a person must look at them.
CREATE TABLE rejected_event (
    shard smallint NOT NULL,
    seq bigint NOT NULL,
    subject text NOT NULL,
    payload bytea NOT NULL,
    headers text NOT NULL,
    reason text NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, seq)
);
