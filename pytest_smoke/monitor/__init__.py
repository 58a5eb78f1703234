"""One smoke from case to outcome: preflight, child, judgement. Knows neither pytest nor torch."""
