"""The Helm charts, written from crds/ and manifests/ and from a table of values."""
