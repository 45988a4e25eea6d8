"""Labels you can trust from an LLM's candidate sets, and a small classifier of your own."""

__version__ = "0.1.0"
