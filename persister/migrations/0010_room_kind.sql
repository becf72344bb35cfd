-- The kind of a room by its id alone: no other index begins with the id, so that a statement that is planned while
-- there are few rooms, or without statistics, can't read all of them for one.
CREATE INDEX IF NOT EXISTS room_kind ON room (id) INCLUDE (kind);
