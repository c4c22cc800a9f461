"""How jobs and results travel between gateway, director and worker."""
