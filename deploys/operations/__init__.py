"""What pyinfra lacks to change on a host: operations that yield commands."""
