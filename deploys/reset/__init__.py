"""Deploys that make a root reset at boot: volumes, boot files and the safety snapshot."""
