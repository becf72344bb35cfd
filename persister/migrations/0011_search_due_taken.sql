-- What is derived from messages behind the watermark (message_key, room_writer) is written once for each statement that
-- takes rows from search_due, no longer once for each row: with rows of three messages that was 80 microseconds a
-- message, now 25 (measured).

-- Writes the keys of these messages, and who wrote them in direct rooms. Its plans are made once a session, by settings
-- with which they can only be look-ups. A room that is not there yet may be a direct one.
CREATE FUNCTION search_due_derive(shards smallint[], rooms bigint[], ids bigint[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    INSERT INTO message_key (shard, client_id, room, id)
    SELECT due.shard, m.client_id::uuid, due.room, due.id FROM unnest(shards, rooms, ids) AS due (shard, room, id)
    CROSS JOIN LATERAL (SELECT m.client_id FROM message m
                        WHERE m.shard = due.shard AND m.room = due.room AND m.id = due.id LIMIT 1) m
    WHERE m.client_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
    ON CONFLICT DO NOTHING;
    INSERT INTO room_writer (shard, room, user_id, id)
    SELECT due.shard, due.room, m.author, max(due.id)
    FROM (SELECT * FROM unnest(shards, rooms, ids) AS due (shard, room, id)
          WHERE coalesce((SELECT r.kind FROM room r WHERE r.id = due.room), 'direct') = 'direct'
          OFFSET 0) due
    CROSS JOIN LATERAL (SELECT m.author FROM message m
                        WHERE m.shard = due.shard AND m.room = due.room AND m.id = due.id LIMIT 1) m
    GROUP BY due.shard, due.room, m.author
    ON CONFLICT (shard, room, user_id) DO UPDATE SET id = excluded.id
    WHERE room_writer.id < excluded.id AND room_writer.id <= (
        SELECT s.stopped FROM room_state s WHERE s.shard = room_writer.shard AND s.room = room_writer.room);
END
$$;

-- Rows that are taken whole.
CREATE FUNCTION search_due_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM search_due_derive(array_agg(t.shard), array_agg(due.room), array_agg(due.id))
    FROM taken t CROSS JOIN LATERAL unnest(t.rooms, t.ids) AS due (room, id);
    RETURN NULL;
END
$$;

-- A row of which messages are taken: from its beginning. This one goes row by row, because a statement that inserts
-- rows, with ON CONFLICT, would call a trigger for statements each time.
CREATE FUNCTION search_due_updated() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    taken integer := cardinality(OLD.ids) - cardinality(NEW.ids);
BEGIN
    IF taken > 0 THEN
        PERFORM search_due_derive(array_fill(OLD.shard, ARRAY[taken]), OLD.rooms[:taken], OLD.ids[:taken]);
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER message_key_write ON search_due;
DROP TRIGGER room_writer_write ON search_due;
DROP FUNCTION message_key_write();
DROP FUNCTION room_writer_write();
CREATE TRIGGER search_due_deleted AFTER DELETE ON search_due REFERENCING OLD TABLE AS taken
    FOR EACH STATEMENT EXECUTE FUNCTION search_due_deleted();
CREATE TRIGGER search_due_updated AFTER UPDATE ON search_due
    FOR EACH ROW EXECUTE FUNCTION search_due_updated();
