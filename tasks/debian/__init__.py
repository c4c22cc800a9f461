"""Debian archives, Debian packages, and root trees that are made of these."""
