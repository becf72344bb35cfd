-- Columns that maintenance needs to find the rows that nobody needs any more. Their indexes are a migration of
-- their own: this one keeps readers out while it runs, so it must be over in a moment.

-- The event that wrote the row last. While the log has it, an older word of the same person and process may
-- still come, and must not count.
ALTER TABLE participant ADD COLUMN IF NOT EXISTS changed bigint NOT NULL DEFAULT 0;
ALTER TABLE online ADD COLUMN IF NOT EXISTS changed bigint NOT NULL DEFAULT 0;
