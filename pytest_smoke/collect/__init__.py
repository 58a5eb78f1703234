"""What pytest sees: recipe files, items, the fixture, the progress line and the summary."""
