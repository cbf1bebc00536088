"""What is true of agents, sessions, tools and models: pure, one concept one file."""
