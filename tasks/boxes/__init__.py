"""A box's disk image: build or finalize it, start a guest of it, ship it."""
