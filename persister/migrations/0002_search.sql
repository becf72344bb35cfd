-- Full-text search. It is filled behind the watermark: on the way of the messages themselves an index of
-- words would cost more than all the rest.

-- The words of each message that is there.
CREATE TABLE message_search (
    shard smallint NOT NULL,
    room bigint NOT NULL,
    id bigint NOT NULL,
    created_at timestamptz NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (shard, room, id)
);

CREATE INDEX message_search_words ON message_search USING gin (words);

-- What is to be indexed: the messages that a batch, begun after that event, has made or changed. It is
-- noted in the batch's transaction, so up to the first of a shard's rows, or else up to the shard's
-- watermark, the index is complete.
CREATE TABLE search_due (
    shard smallint NOT NULL,
    after_seq bigint NOT NULL,
    rooms bigint[] NOT NULL,
    ids bigint[] NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, after_seq)
);

-- Not compressed: a batch of 1,000 messages then pays 4 % for its note, and 25 % otherwise (measured).
ALTER TABLE search_due ALTER rooms SET STORAGE EXTERNAL, ALTER ids SET STORAGE EXTERNAL;

-- What was written before there was a search.
INSERT INTO search_due (shard, after_seq, rooms, ids)
SELECT shard, min(id) - 1, array_agg(room ORDER BY id), array_agg(id ORDER BY id)
FROM (SELECT shard, room, id, (row_number() OVER (PARTITION BY shard ORDER BY id) - 1) / 1000 AS part
      FROM message WHERE deleted_at IS NULL) AS numbered
GROUP BY shard, part;
