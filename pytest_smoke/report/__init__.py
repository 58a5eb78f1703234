"""Renderers: pure functions from outcomes to text. They import neither pytest nor torch and read no files."""
