"""Recipes: their YAML, their model, and every check that can be made before anything runs.

Only this package imports yaml and pydantic.
"""
