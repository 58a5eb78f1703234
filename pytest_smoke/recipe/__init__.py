"""Recipes: the full run, what stands in for it, and what must hold. The only room that knows YAML and pydantic."""
