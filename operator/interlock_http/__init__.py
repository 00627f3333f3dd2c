"""The HTTP servers of all programs: one bounded listener, and the answers of probes."""
