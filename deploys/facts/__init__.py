"""What pyinfra lacks to know about a host: facts that read and change nothing."""
