"""The guard's audit trail: records, their spool and their way to the collector."""
