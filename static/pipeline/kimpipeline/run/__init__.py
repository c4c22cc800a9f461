"""A pair of a Test and a Model, run by itself."""
