"""The HTML page of a report: one file that needs no network, with an interactive plot of every smoke run."""
