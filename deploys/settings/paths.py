"""Folders of a box that several modules use."""

from __future__ import annotations

STATE = "/persistent/gateway"

UPLOADS = "/var/cache/onbox-upload."
"""With this the path of each file begins that is sent to a host for one script.

Only root can write there, so no other user can put a link in place of the file, as in /tmp.
"""
