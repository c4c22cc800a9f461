"""This machine and this terminal."""
