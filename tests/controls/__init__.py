"""Recipes that must end in a verdict of their own: each check has one that must fail it."""
