-- All that Roomcast keeps in Postgres. Every row is written by events of one shard only, so every
-- table begins with it (-1 is the system stream): a batch and its watermark stay on one node of a
-- distributed Postgres. The hot table has its primary key and nothing more.

-- Up to where each shard's log is in Postgres, and what must be known of that log even where it is lost.
-- It moves first in every transaction.
CREATE TABLE watermark (
    shard smallint NOT NULL PRIMARY KEY,
    seq bigint NOT NULL,
    -- The log's epoch; 0 before it was ever seen.
    epoch bigint NOT NULL DEFAULT 0,
    -- The last event the log was ever seen to have: in this epoch, ids up to it have been given.
    seen bigint NOT NULL DEFAULT 0,
    -- When the broker stored the event at seq, in nanoseconds since 1970: it tells which event that was.
    stored_at bigint,
    -- The boot of a single broker's host.
    boot text
);

-- What the log lost before Postgres had it, as `roomcast recover --accept-loss` noted it.
CREATE TABLE lost_range (
    shard smallint NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, from_seq)
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
    -- The two it was made for; they never change.
    pair text[],
    -- What must be unique, hashed, and how many closed ones came before.
    key text,
    generation integer,
    -- What only rooms of its kind have.
    detail jsonb,
    PRIMARY KEY (shard, id)
);

CREATE UNIQUE INDEX room_key ON room (shard, key, generation);

CREATE INDEX room_team ON room (team) WHERE team IS NOT NULL;

-- The rooms of two of a person.
CREATE INDEX room_pair ON room USING gin (pair) WHERE pair IS NOT NULL;

-- Topics by their category, in the order of their pages.
CREATE INDEX room_category ON room ((detail -> 'topic' ->> 'category'), id) WHERE kind = 'topic';

-- Support rooms by their key, and an organisation's by product and by visitor.
CREATE INDEX room_secret ON room ((detail -> 'support' ->> 'secret')) WHERE kind = 'support';
CREATE INDEX room_org ON room ((detail -> 'support' ->> 'org_id'), (detail -> 'support' ->> 'product_name'), id)
    WHERE kind = 'support';
CREATE INDEX room_visitor ON room ((detail -> 'support' ->> 'org_id'), (detail -> 'support' ->> 'visitor'))
    WHERE kind = 'support';

-- What became of a room since: null where it is as it was made. The room's own shard writes it, so the row
-- may exist before the room's. changed is the last event that changed the room or who may enter it.
CREATE TABLE room_state (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    name text,
    description text,
    private boolean,
    closed_at timestamptz,
    changed bigint NOT NULL,
    -- The event by which two talk no more, until both write again.
    stopped bigint,
    PRIMARY KEY (shard, room)
);

-- Who may enter a room.
CREATE TABLE room_member (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    user_id text NOT NULL,
    added_by text NOT NULL,
    PRIMARY KEY (shard, room, user_id)
);

CREATE INDEX room_member_user ON room_member (user_id);

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

-- Whose people are still here: asked for when a process is dead.
CREATE INDEX participant_present ON participant (incarnation, shard) WHERE present;

-- Where a person is.
CREATE INDEX participant_user ON participant (user_id) WHERE present;

-- Who has a socket open, told and folded in the same way.
CREATE TABLE online (
    shard smallint NOT NULL,
    user_id text NOT NULL,
    incarnation bigint NOT NULL,
    counter bigint NOT NULL,
    present boolean NOT NULL,
    PRIMARY KEY (shard, user_id, incarnation)
);

CREATE INDEX online_present ON online (incarnation, shard) WHERE present;

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
    -- The last event that edited or deleted it.
    changed bigint,
    -- What only messages in rooms of its kind have.
    detail jsonb,
    PRIMARY KEY (shard, room, id)
);

CREATE INDEX message_changed ON message (shard, room, changed) WHERE changed IS NOT NULL;

-- Up to where a person has read a room.
CREATE TABLE read_mark (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    user_id text NOT NULL,
    message_id bigint NOT NULL,
    PRIMARY KEY (shard, room, user_id)
);

-- A team as it was made: shard is always -1, id is the sequence of its creation.
CREATE TABLE team (
    shard smallint NOT NULL,
    id bigint NOT NULL,
    name text NOT NULL,
    creator text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (shard, id)
);

-- Who belongs to a team: in the team's shard.
CREATE TABLE team_member (
    shard smallint NOT NULL,
    team bigint NOT NULL,
    user_id text NOT NULL,
    added_by text NOT NULL,
    PRIMARY KEY (shard, team, user_id)
);

CREATE INDEX team_member_user ON team_member (user_id);

-- Invitations, in the shard of the person they ask; id is the event's sequence there.
CREATE TABLE invitation (
    shard smallint NOT NULL,
    user_id text NOT NULL,
    id bigint NOT NULL,
    room bigint NOT NULL,
    room_name text NOT NULL,
    invited_by text NOT NULL,
    created_at timestamptz NOT NULL,
    accepted boolean,
    PRIMARY KEY (shard, user_id, id)
);

-- What the host application says of people; keys that it never named are absent.
CREATE TABLE person (
    shard smallint NOT NULL,
    user_id text NOT NULL,
    profile jsonb NOT NULL,
    issued_at bigint NOT NULL,
    PRIMARY KEY (shard, user_id)
);

-- Which of their rooms of two a person looks at.
CREATE TABLE current_room (
    shard smallint NOT NULL,
    user_id text NOT NULL,
    room bigint NOT NULL,
    PRIMARY KEY (shard, user_id)
);

-- Whether a person shows themselves.
CREATE TABLE camera (
    shard smallint NOT NULL,
    user_id text NOT NULL,
    is_on boolean NOT NULL,
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
