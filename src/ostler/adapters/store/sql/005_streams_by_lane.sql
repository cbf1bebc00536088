-- Which workers took a stream and did not come back, and who goes first.
ALTER TABLE streams ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE streams ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE streams ADD COLUMN claimed INTEGER NOT NULL DEFAULT 0;

-- The lanes of what is due and in nobody's hands: most urgent first, then longest due.
DROP INDEX streams_by_due;
CREATE INDEX streams_by_lane ON streams (tenant, queue, -priority, due, key) WHERE due IS NOT NULL AND worker IS NULL;
CREATE INDEX streams_by_due ON streams (due, key) WHERE due IS NOT NULL AND worker IS NULL;
