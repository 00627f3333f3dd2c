"""The guard's self-test of each bundle, and the report of its result."""
