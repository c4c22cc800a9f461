"""The pipeline's runner: runs a KIM Test with a KIM Model, and takes such pairs from a queue."""
