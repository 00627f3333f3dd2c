"""The control plane's I/O with the API server: caches, snapshots, the applier, the killer, statuses and Events."""
