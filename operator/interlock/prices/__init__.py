"""The prices of models: the compiled book, and what policies say instead. Pure."""
