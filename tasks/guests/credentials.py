"""Give a guest its host key and its user's SSH key, as system credentials of systemd.

The guest reads them at each boot; see systemd.exec(5), "Credentials". So nothing is written into
the image, and the host key is known before the first boot.
"""

from __future__ import annotations

from pathlib import Path

from tasks.desk import ssh_keys

# host-keys.service takes the credential of this name.
_HOST_KEY = "ssh_host_ed25519_key"
# Lines of tmpfiles.d(5). f+ replaces the file, and with it the well-known key of a shipped box.
_FOLDER = "d /home/{user}/.ssh 0700 {user} {user}"
_LOGIN = "f+ /home/{user}/.ssh/authorized_keys 0600 {user} {user} - {key}\\n"


def make(folder: Path, user: str, user_key: Path) -> tuple[ssh_keys.Identity, dict[str, Path]]:
    """Make a guest's identity, and the files of its credentials, by the credentials' names.

    Args:
        folder: the guest's folder, in which the files are kept.
        user: the name of the user who logs in.
        user_key: the file of our private key; made when it is missing.

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
    """The credential with the user's SSH key as an OEM string of SMBIOS (type 11).

    systemd reads it there. It is not secret. It has at most 255 characters, which is VirtualBox's
    limit: a user's name has at most 32, and a box has the user's folder already.

    Raises:
        CommandError: ssh-keygen is missing or failed.
    """
    kind, key = ssh_keys.make_key(user_key).split()[:2]
    return "io.systemd.credential:tmpfiles.extra=" + _LOGIN.format(user=user, key=f"{kind} {key}")
