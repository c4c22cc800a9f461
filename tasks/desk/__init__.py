"""The desk: the machine and the terminal on which a person types."""
