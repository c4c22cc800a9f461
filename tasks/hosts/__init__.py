"""A host over SSH, and what is done to it."""
