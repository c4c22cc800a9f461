"""The engine of the tasks on hosts: the SSH connection, and what the tasks do over it."""
