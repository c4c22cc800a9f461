"""What `fab -H HOST` offers."""

from tasks import ns

__all__ = ["ns"]
