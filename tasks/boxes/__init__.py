"""A box's image: built, kept, finalized, started, shipped."""
