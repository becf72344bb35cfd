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
