"""The verdict: what a rehearsal and its curve say. Pure: the standard library, and the recipe's values."""
