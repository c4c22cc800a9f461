"""Deploys of the services of a box."""
