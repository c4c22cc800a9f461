"""Read the disks of a host, then plan what to do to them, or refuse. Nothing is changed."""
