"""Recipes with a known verdict; every check has one that makes it fail and one that passes it."""
