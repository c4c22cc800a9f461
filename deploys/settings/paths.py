"""Folders of a box that several modules use."""

from __future__ import annotations

STATE = "/persistent/gateway"
