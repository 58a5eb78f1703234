"""Find the settings that make a stable recipe unstable."""
