-- What lists would otherwise count or look for anew each time: how many belong to a room or a team, how many topics a
-- category has, and who has written in a room of two. The tables keep it by themselves, by triggers, because persisters
-- of older versions write to them too. Each row is written by the shard of the rows that it counts.

-- How many may enter a room, of those who are named in room_member.
CREATE TABLE room_size (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    members bigint NOT NULL,
    PRIMARY KEY (shard, room)
);

-- How many belong to a team.
CREATE TABLE team_size (
    shard smallint NOT NULL,
    team bigint NOT NULL,
    members bigint NOT NULL,
    PRIMARY KEY (shard, team)
);

CREATE FUNCTION room_size_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO room_size (shard, room, members)
    SELECT c.shard, c.room, count(*) * TG_ARGV[0]::integer FROM changed c GROUP BY c.shard, c.room
    ON CONFLICT (shard, room) DO UPDATE SET members = room_size.members + excluded.members;
    RETURN NULL;
END
$$;

CREATE FUNCTION team_size_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO team_size (shard, team, members)
    SELECT c.shard, c.team, count(*) * TG_ARGV[0]::integer FROM changed c GROUP BY c.shard, c.team
    ON CONFLICT (shard, team) DO UPDATE SET members = team_size.members + excluded.members;
    RETURN NULL;
END
$$;

CREATE TRIGGER room_size_added AFTER INSERT ON room_member REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION room_size_write('1');
CREATE TRIGGER room_size_removed AFTER DELETE ON room_member REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION room_size_write('-1');
CREATE TRIGGER team_size_added AFTER INSERT ON team_member REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION team_size_write('1');
CREATE TRIGGER team_size_removed AFTER DELETE ON team_member REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION team_size_write('-1');

INSERT INTO room_size SELECT shard, room, count(*) FROM room_member GROUP BY shard, room;
INSERT INTO team_size SELECT shard, team, count(*) FROM team_member GROUP BY shard, team;

-- How many open topics a category has, for each thousand of ids: the page of a list begins where the sums say. A topic
-- is counted by the system stream's shard, and taken away by its own: the sums over all shards are true.
CREATE TABLE topic_count (
    shard smallint NOT NULL,
    category text NOT NULL,
    part bigint NOT NULL,
    topics bigint NOT NULL,
    PRIMARY KEY (shard, category, part)
);

CREATE INDEX topic_count_category ON topic_count (category, part);

-- Rooms that were closed before their category was written, so that it counts nothing when it is: another shard's events
-- make a room, and an older persister may have written it without its category.
CREATE TABLE closed_early (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    PRIMARY KEY (shard, room)
);

CREATE INDEX closed_early_room ON closed_early (room);

CREATE FUNCTION topic_count_add(shard smallint, category text, room bigint, topics integer) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO topic_count (shard, category, part, topics) VALUES ($1, $2, $3 / 1000, $4)
    ON CONFLICT (shard, category, part) DO UPDATE SET topics = topic_count.topics + excluded.topics
$$;

-- A topic is made, or its category is filled in. Of this and its closing, which may be written at the same time, the
-- second sees the first.
CREATE FUNCTION topic_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('roomcast topic ' || NEW.id, 0));
    IF NOT EXISTS (SELECT FROM closed_early c WHERE c.room = NEW.id) THEN
        PERFORM topic_count_add(NEW.shard, NEW.detail -> 'topic' ->> 'category', NEW.id, 1);
    END IF;
    RETURN NULL;
END
$$;

-- A room is closed. Only topics take the lock; the kind of a room never changes, and is null while its creation is not
-- written.
CREATE FUNCTION topic_closed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    room_kind text;
    room_category text;
BEGIN
    SELECT r.kind INTO room_kind FROM room r WHERE r.shard = -1 AND r.id = NEW.room;
    IF room_kind <> 'topic' THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('roomcast topic ' || NEW.room, 0));
    -- Under the lock once more: creation or category may have been written meanwhile.
    SELECT r.kind, r.detail -> 'topic' ->> 'category' INTO room_kind, room_category
    FROM room r WHERE r.shard = -1 AND r.id = NEW.room;
    IF room_category IS NOT NULL THEN
        PERFORM topic_count_add(NEW.shard, room_category, NEW.room, -1);
    ELSIF coalesce(room_kind, 'topic') = 'topic' THEN
        INSERT INTO closed_early (shard, room) VALUES (NEW.shard, NEW.room) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER topic_made AFTER INSERT ON room
    FOR EACH ROW WHEN (NEW.detail -> 'topic' ->> 'category' IS NOT NULL) EXECUTE FUNCTION topic_made();
CREATE TRIGGER topic_filled AFTER UPDATE OF detail ON room
    FOR EACH ROW WHEN (OLD.detail -> 'topic' ->> 'category' IS NULL AND NEW.detail -> 'topic' ->> 'category' IS NOT NULL)
    EXECUTE FUNCTION topic_made();
CREATE TRIGGER topic_closed AFTER INSERT ON room_state
    FOR EACH ROW WHEN (NEW.closed_at IS NOT NULL) EXECUTE FUNCTION topic_closed();
CREATE TRIGGER topic_closed_later AFTER UPDATE OF closed_at ON room_state
    FOR EACH ROW WHEN (OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL) EXECUTE FUNCTION topic_closed();

INSERT INTO topic_count (shard, category, part, topics)
SELECT -1, r.detail -> 'topic' ->> 'category', r.id / 1000, count(*) FROM room r
WHERE r.kind = 'topic' AND r.detail -> 'topic' ->> 'category' IS NOT NULL
  AND NOT EXISTS (SELECT FROM room_state s WHERE s.room = r.id AND s.closed_at IS NOT NULL)
GROUP BY 2, 3;

INSERT INTO closed_early (shard, room)
SELECT s.shard, s.room FROM room_state s LEFT JOIN room r ON r.shard = -1 AND r.id = s.room
WHERE s.closed_at IS NOT NULL AND coalesce(r.kind, 'topic') = 'topic' AND r.detail -> 'topic' ->> 'category' IS NULL;

-- Who has written in a direct room: the id of a message of theirs, and after a stop of a newer one, where there is any.
-- Filled behind the watermark, together with the search index: messages that still stand in search_due are not in it.
CREATE TABLE room_writer (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    user_id text NOT NULL,
    id bigint NOT NULL,
    PRIMARY KEY (shard, room, user_id)
);

-- By the rooms' kinds first: most messages are of other rooms, and are not read. Its plan is made once a session, by
-- settings with which it can only be one of look-ups.
CREATE FUNCTION room_writer_write() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    -- Messages are taken from the beginning of a note.
    taken integer := cardinality(OLD.ids) - coalesce(cardinality(NEW.ids), 0);
BEGIN
    IF taken <= 0 THEN
        RETURN NULL;
    END IF;
    -- A room that is not there yet may be one of two.
    INSERT INTO room_writer (shard, room, user_id, id)
    SELECT OLD.shard, m.room, m.author, max(m.id)
    FROM (SELECT due.room, due.id FROM unnest(OLD.rooms[:taken], OLD.ids[:taken]) AS due (room, id)
          WHERE coalesce((SELECT r.kind FROM room r WHERE r.shard = -1 AND r.id = due.room), 'direct') = 'direct'
          OFFSET 0) due
    CROSS JOIN LATERAL (SELECT m.room, m.author, m.id FROM message m
                        WHERE m.shard = OLD.shard AND m.room = due.room AND m.id = due.id LIMIT 1) m
    GROUP BY m.room, m.author
    ON CONFLICT (shard, room, user_id) DO UPDATE SET id = excluded.id
    WHERE room_writer.id < excluded.id AND room_writer.id <= (
        SELECT s.stopped FROM room_state s WHERE s.shard = room_writer.shard AND s.room = room_writer.room);
    RETURN NULL;
END
$$;

CREATE TRIGGER room_writer_write AFTER UPDATE OR DELETE ON search_due
    FOR EACH ROW EXECUTE FUNCTION room_writer_write();

-- A room's messages are in its own shard, which is its id modulo the number of shards.
INSERT INTO room_writer (shard, room, user_id, id)
SELECT m.shard, m.room, m.author, max(m.id) FROM room r
CROSS JOIN (SELECT nullif(count(*), 0) AS shards FROM watermark WHERE shard >= 0) w
CROSS JOIN LATERAL (SELECT m.shard, m.room, m.author, m.id FROM message m
                    WHERE m.shard = r.id % w.shards AND m.room = r.id) m
WHERE r.shard = -1 AND r.kind = 'direct' GROUP BY m.shard, m.room, m.author;
