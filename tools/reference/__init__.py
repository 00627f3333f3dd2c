"""The generator of reference pages: reasons of conditions and Events, settings and metrics."""
