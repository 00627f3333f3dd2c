"""The types of group interlock.dev, defined once: CRDs, `kubectl explain` and the reference come from here."""
