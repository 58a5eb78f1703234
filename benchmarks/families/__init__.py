"""Families of short training runs for `training_families.py`: problems, training, labels."""
