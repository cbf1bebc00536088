-- The few streams whose workers died or fell silent, for those who watch over the store.
CREATE INDEX streams_by_attempts ON streams (attempts) WHERE attempts >= 2;
