"""A gateway: its owners, its queue and results, and what of it is backed up."""
