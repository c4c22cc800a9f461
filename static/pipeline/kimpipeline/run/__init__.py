"""Run a pair of a Test and a Model."""
