"""Folders of a box that more than one part knows."""

from __future__ import annotations

STATE = "/persistent/gateway"
