"""The access tables in the examples' pages: made by the function that guards decide with, and checked for drift."""
