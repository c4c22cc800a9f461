"""KIM's formats: ids, items, templates, results."""
