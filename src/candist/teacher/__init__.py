"""The teacher: whoever gives candidate sets."""
