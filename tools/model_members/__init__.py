"""The members of bodies for models, generated from the types of the official SDKs."""
