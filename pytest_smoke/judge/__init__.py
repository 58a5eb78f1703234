"""The judge: loss curves, checks and the verdict. It starts no process, and imports neither torch nor pytest."""
