-- An agent's sessions, newest first, without walking past those of all others.
CREATE INDEX streams_by_queue ON streams (tenant, queue);
