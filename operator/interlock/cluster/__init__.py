"""The control plane's I/O with the API server: caches, the applier, the killer, statuses and Events."""
