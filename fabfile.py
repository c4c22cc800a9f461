"""Fabric's entry: the tasks of `fab -H HOST TASK`."""

from tasks import ns

__all__ = ["ns"]
