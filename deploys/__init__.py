"""Change hosts: pyinfra deploys, and the facts and operations that they use."""
