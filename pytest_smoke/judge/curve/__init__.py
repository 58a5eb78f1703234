"""The streaming engine that judges one loss curve."""
