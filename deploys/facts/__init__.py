"""Facts about a host that pyinfra does not have. They read, and change nothing."""
