-- Indexes in whose place newer ones are, which begin with the same columns. This keeps readers out while it runs, so it
-- is a migration of its own, that is over in a moment.
DROP INDEX IF EXISTS room_team;
DROP INDEX IF EXISTS room_member_user;
DROP INDEX IF EXISTS team_member_user;
DROP INDEX IF EXISTS participant_user;
-- room_pair stays for now: api nodes of the release before list direct rooms by it while they run beside this version.
