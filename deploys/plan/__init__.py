"""What is to be done to the disks of a host: read, refused or planned, and nothing changed."""
