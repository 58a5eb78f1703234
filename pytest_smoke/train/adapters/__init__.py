"""Smoke runs of trainers that have a training loop of their own."""
