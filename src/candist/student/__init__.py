"""The student: a small classifier trained on candidate sets."""
