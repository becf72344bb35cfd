-- Indexes by which lists are read, newest room first: a page of them costs what is on it, however many rooms there
-- are. While they are built, nothing is written to their tables, and all is read. Where that takes too long, they can
-- be built before: see "Upgrading" in deploy/OPERATING.md.

-- Rooms that everyone may enter, as they were made.
CREATE INDEX IF NOT EXISTS room_open ON room (shard, id) WHERE kind IN ('public', 'topic');
-- Rooms that were made private and are not any more.
CREATE INDEX IF NOT EXISTS room_state_opened ON room_state (room) WHERE NOT private;
-- Rooms that were closed lately: a persister that begins to lead their shard reads them.
CREATE INDEX IF NOT EXISTS room_state_closed ON room_state (shard, closed_at) WHERE closed_at IS NOT NULL;
-- Rooms by who made them, and those of two by each of the two.
CREATE INDEX IF NOT EXISTS room_creator ON room (creator, id);
CREATE INDEX IF NOT EXISTS room_first ON room ((pair[1]), kind, id) WHERE pair IS NOT NULL;
CREATE INDEX IF NOT EXISTS room_second ON room ((pair[2]), kind, id) WHERE pair IS NOT NULL;
-- Match rooms, for admins; support rooms of an organisation, for its agents.
CREATE INDEX IF NOT EXISTS room_match ON room (shard, id) WHERE kind = 'match';
CREATE INDEX IF NOT EXISTS room_desk ON room ((detail -> 'support' ->> 'org_id'), id) WHERE kind = 'support';
-- Rooms of a team, and teams by who made them.
CREATE INDEX IF NOT EXISTS room_of_team ON room (team, id) WHERE team IS NOT NULL;
CREATE INDEX IF NOT EXISTS team_creator ON team (creator, id);

-- Where a person may enter, and where they are.
CREATE INDEX IF NOT EXISTS room_member_rooms ON room_member (user_id, room);
CREATE INDEX IF NOT EXISTS team_member_teams ON team_member (user_id, team);
CREATE INDEX IF NOT EXISTS participant_rooms ON participant (user_id, room) WHERE present;

-- Members in the order of the bytes of their ids, as they are named, paged and looked up: an id is compared as
-- `user_id COLLATE "C"` everywhere. Compared by the column's own collation, it may be looked for among all members of a
-- room, since a planner without statistics takes this index for the primary key.
CREATE INDEX IF NOT EXISTS room_member_names ON room_member (shard, room, user_id COLLATE "C");
CREATE INDEX IF NOT EXISTS team_member_names ON team_member (shard, team, user_id COLLATE "C");
