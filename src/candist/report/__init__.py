"""What a run came to, for people: facts, terminal summary, HTML page."""
