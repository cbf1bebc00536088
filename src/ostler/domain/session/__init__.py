"""A session: one durable run of an agent towards a goal, as three pure functions over its events."""
