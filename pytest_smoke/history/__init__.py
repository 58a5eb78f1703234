"""The outcomes of many sessions: how each smoke run changes over time, and which one drifts towards a limit."""
