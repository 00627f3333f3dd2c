"""The generator of reference pages: reasons of conditions and Events, and settings of the operator."""
