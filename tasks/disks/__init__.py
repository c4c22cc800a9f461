"""Disk images: partitions, volumes, filesystems and boot loaders."""
