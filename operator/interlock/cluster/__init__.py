"""The only packages that speak to the API server: reading, applying, killing, telling."""
