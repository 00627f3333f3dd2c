"""The control plane's I/O with the API server: caches, the applier, statuses and Events."""
