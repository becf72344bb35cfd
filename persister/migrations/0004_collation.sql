-- Ids of people are paged in the order of their bytes, whatever the collation of the database: with these
-- columns' own collation their indexes have that order. Rows stay as they are; the indexes are built anew.
ALTER TABLE participant ALTER user_id TYPE text COLLATE "C";
ALTER TABLE room_member ALTER user_id TYPE text COLLATE "C";
ALTER TABLE team_member ALTER user_id TYPE text COLLATE "C";
