-- What maintenance needs to find the rows that nobody needs any more, and what readers need to pass them by.

-- The event that wrote the row last. While the log has it, an older word of the same person and process may
-- still come, and must not count.
ALTER TABLE participant ADD changed bigint NOT NULL DEFAULT 0;
ALTER TABLE online ADD changed bigint NOT NULL DEFAULT 0;

-- Who has left, by when.
CREATE INDEX participant_gone ON participant (shard, changed) WHERE NOT present;
CREATE INDEX online_gone ON online (shard, changed) WHERE NOT present;

-- Who is in a room.
CREATE INDEX participant_here ON participant (shard, room, user_id) WHERE present;

-- Invitations that nobody has answered, in the order in which they were made.
CREATE INDEX invitation_open ON invitation (shard, id) WHERE accepted IS NULL;
