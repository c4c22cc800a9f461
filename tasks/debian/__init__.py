"""An archive of Debian packages, and trees that are made of them."""
