"""Plugins and profiles of the test suite, nothing else."""

import os
from importlib.util import find_spec

pytest_plugins = ["pytester"]

# Before torch is imported. Two workers on two cores: torch's threads would only wait for each other, which costs
# 25 % more CPU time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if find_spec("hypothesis"):  # the shipped recipes run without the extra `test`
    from hypothesis import settings

    settings.register_profile("dev", deadline=None, max_examples=50)
    settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
    settings.load_profile("ci" if os.environ.get("CI") else "dev")
