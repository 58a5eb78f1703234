"""The audit of a data mix: intended shares against the rows of a corpus, and against what a run sampled."""
