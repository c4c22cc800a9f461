"""Machines made and run here: disk images, QEMU guests, and the door for local commands."""
