"""A client of the Kubernetes API server on aiohttp: requests, list and watch, retries."""
