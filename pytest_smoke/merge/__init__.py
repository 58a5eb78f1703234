"""Merges the report folders of several sessions into one."""
