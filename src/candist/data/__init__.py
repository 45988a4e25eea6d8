"""Texts in and out: files, frames, the run folder."""
