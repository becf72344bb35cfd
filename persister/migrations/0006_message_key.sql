-- Messages by their client_id, where that is a UUIDv7: such keys hold for ever. Filled behind the watermark, with
-- the words: an index on the table of messages would cost each of them 2 to 3 µs (measured). Keys of messages from
-- before this migration are not in it: they held for a minute.
CREATE TABLE message_key (
    shard smallint NOT NULL,
    client_id uuid NOT NULL,
    room bigint NOT NULL,
    id bigint NOT NULL,
    PRIMARY KEY (shard, client_id, room, id)
);

-- Writes the keys of the messages that are taken from a note of search_due, in the transaction that takes them. The
-- table does this by itself because persisters of older versions, which know nothing of keys, take notes too.
CREATE FUNCTION message_key_write() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Messages are taken from the beginning of a note.
    taken integer := cardinality(OLD.ids) - coalesce(cardinality(NEW.ids), 0);
BEGIN
    IF taken <= 0 THEN
        RETURN NULL;
    END IF;
    -- By EXECUTE, to be planned each time: a plan of when the table was small would read all of it.
    EXECUTE 'INSERT INTO message_key (shard, client_id, room, id)
             SELECT $1, m.client_id::uuid, m.room, m.id FROM unnest($2, $3) AS due (room, id)
             CROSS JOIN LATERAL (SELECT m.client_id, m.room, m.id FROM message m
                                 WHERE m.shard = $1 AND m.room = due.room AND m.id = due.id LIMIT 1) m
             WHERE m.client_id ~* ''^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$''
             ON CONFLICT DO NOTHING'
        USING OLD.shard, OLD.rooms[:taken], OLD.ids[:taken];
    RETURN NULL;
END
$$;

CREATE TRIGGER message_key_write AFTER UPDATE OR DELETE ON search_due
    FOR EACH ROW EXECUTE FUNCTION message_key_write();
