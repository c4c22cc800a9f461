"""What makes a guest of ours out of an image that is nobody's: its host key, and who logs in.

Both are handed over at each boot as systemd's system credentials (systemd.exec(5), "Credentials"),
so that nothing is written into the image, and the guest's key is known before its first boot.
"""

from __future__ import annotations

from pathlib import Path

from tasks.desk import ssh_keys

# See host-keys.service.
_HOST_KEY = "ssh_host_ed25519_key"
# tmpfiles.d(5). The well-known key that a box is shipped with lets nobody into this guest.
_FOLDER = "d /home/{user}/.ssh 0700 {user} {user}"
_LOGIN = "f+ /home/{user}/.ssh/authorized_keys 0600 {user} {user} - {key}\\n"


def make(folder: Path, user: str, user_key: Path) -> tuple[ssh_keys.Identity, dict[str, Path]]:
    """A guest's identity, and the files of the credentials that give it to the guest, by name.

    Args:
        folder: the guest's own; the files are kept in it.
        user: who logs in.
        user_key: our private key's file, made when it is missing.

    Raises:
        CommandError: ssh-keygen is missing or failed.
    """
    host_key = folder / _HOST_KEY
    login = folder / "tmpfiles.extra"
    public = ssh_keys.make_key(host_key)
    lines = f"{_FOLDER}\n{_LOGIN}\n"
    login.write_text(lines.format(user=user, key=ssh_keys.make_key(user_key)))
    identity = ssh_keys.Identity(user=user, user_key=user_key, host_key=public)
    return identity, {host_key.name: host_key, login.name: login}


def oem_string(user: str, user_key: Path) -> str:
    """The credential of who logs in as a string of SMBIOS (type 11), where systemd looks too.

    Nothing in it is secret. It has at most 255 characters, all that VirtualBox takes: a user's
    name has 32 at most, and a box has the user's folder already.

    Raises:
        CommandError: ssh-keygen is missing or failed.
    """
    kind, key = ssh_keys.make_key(user_key).split()[:2]
    return "io.systemd.credential:tmpfiles.extra=" + _LOGIN.format(user=user, key=f"{kind} {key}")
