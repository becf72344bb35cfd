-- What programs of different versions have to know of each other while they run side by side.
-- Every statement may be run again: see "Upgrading" in deploy/OPERATING.md.

-- The lowest schema version that a program must know to work with these tables. A migration that older
-- programs can't live with raises it to its own number; one that only adds leaves it as it is.
CREATE TABLE IF NOT EXISTS schema_compatibility (
    minimum bigint NOT NULL
);

INSERT INTO schema_compatibility (minimum) SELECT 1 WHERE NOT EXISTS (SELECT FROM schema_compatibility);

-- What `roomcast replay-rejected` needs of an event. All of it is null in rows that older versions wrote.
ALTER TABLE rejected_event
    -- When the broker stored the event.
    ADD COLUMN IF NOT EXISTS stored_at timestamptz,
    -- Why the row is here, as one of a few words; reason is a sentence for a person.
    ADD COLUMN IF NOT EXISTS cause text,
    -- When the row was settled by a replay, and how. Rows without it are open.
    ADD COLUMN IF NOT EXISTS resolved_at timestamptz,
    ADD COLUMN IF NOT EXISTS resolution text;

CREATE INDEX IF NOT EXISTS rejected_event_open ON rejected_event (shard, seq, cause) WHERE resolved_at IS NULL;
