"""Watch a full run: follow its log, and stop it only if it is unstable."""
