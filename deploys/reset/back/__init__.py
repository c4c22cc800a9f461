"""Give a host back: what is noted of it before it becomes a box, and how it becomes that again."""
