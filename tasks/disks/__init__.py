"""What is on a disk image."""
