"""What KIM says: ids, items, and how they are written."""
