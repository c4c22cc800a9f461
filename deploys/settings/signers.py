"""Who may sign the setup project: lines of an allowed_signers file, as ssh-keygen(1) has them."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import Annotated

from pydantic import AfterValidator

from deploys.settings.quantities import shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_KINDS = "ssh-ed25519|sk-ssh-ed25519@openssh[.]com|ecdsa-sha2-nistp256|ecdsa-sha2-nistp384|ssh-rsa"
_TIME = r"\d{8}(?:\d{4}(?:\d\d)?)?Z?"
_OPTION = rf'namespaces="git"|valid-(?:after|before)="{_TIME}"'
_LINE = re.compile(
    rf"(?P<name>{NAME.pattern})(?: (?:{_OPTION})(?:,(?:{_OPTION}))*)?"
    r" (?P<kind>" + _KINDS + r") (?P<key>[A-Za-z0-9+/]+=*)(?: [ -~]*)?"
)


def line(name: str, public: str) -> str:
    """The line that lets a public key (``TYPE BASE64 [COMMENT]``) sign commits, and nothing else.

    Raises:
        ValueError: the name or the key is malformed.
    """
    return _checked(f'{name} namespaces="git" {" ".join(public.split()[:2])}')


def name_of(signer: str) -> str:
    """Whose key a line has."""
    return signer.partition(" ")[0]


def parsed(text: str) -> tuple[str, ...]:
    """The lines of an allowed_signers file; those that are empty or comments are left out."""
    lines = (each.strip() for each in text.splitlines())
    return tuple(each for each in lines if each and not each.startswith("#"))


def _checked(value: str) -> str:
    match = _LINE.fullmatch(value)
    if not match:
        raise ValueError(f"{shown(value)} is no signer: inv signer.add makes the line NAME KEY")
    try:
        blob = base64.b64decode(match["key"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"the key of {match['name']} is not whole: {error}") from error
    kind = match["kind"].encode()
    if not blob.startswith(struct.pack(">I", len(kind)) + kind):
        raise ValueError(f"the key of {match['name']} is no {match['kind']}")
    return value


Signer = Annotated[str, AfterValidator(_checked)]
