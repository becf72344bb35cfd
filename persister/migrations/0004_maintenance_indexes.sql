-- Indexes for maintenance and for readers. While they are built, nothing is written to their tables, and all is
-- read. Where that takes too long, they can be built before: see "Upgrading" in deploy/OPERATING.md.

-- People who have left, by the event that said so.
CREATE INDEX IF NOT EXISTS participant_gone ON participant (shard, changed) WHERE NOT present;
CREATE INDEX IF NOT EXISTS online_gone ON online (shard, changed) WHERE NOT present;

-- People who are in a room, in the order of the bytes of their ids, whatever the collation of the database:
-- they are paged in that order. (Another collation of the column itself would change the type of what older api
-- nodes read, and end their prepared statements.)
CREATE INDEX IF NOT EXISTS participant_here ON participant (shard, room, user_id COLLATE "C", incarnation)
    WHERE present;

-- Invitations that nobody has answered, in the order in which they were made.
CREATE INDEX IF NOT EXISTS invitation_open ON invitation (shard, id) WHERE accepted IS NULL;
