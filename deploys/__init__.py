"""What happens on a host: pyinfra deploys, and the facts and operations they are made of."""
