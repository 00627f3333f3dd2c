"""CustomResourceDefinitions from the API types: schema, generator and lint. Build time only."""
