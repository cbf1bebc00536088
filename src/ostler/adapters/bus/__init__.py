"""Where the log is relayed to: the process itself, Redis Streams, NATS JetStream, Kafka, webhooks."""
