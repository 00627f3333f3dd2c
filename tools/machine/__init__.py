"""What all tools stand on: settings, pinned versions, programs run with a log, steps and locks, downloads."""
