"""Verdict smokes for pytest: short training runs that decide whether the full run is worth launching."""
