"""Errors of a tagger by kind, and trimming of span boundaries. Pure: no model, no files."""
