"""What makes a guest of ours out of an image that is nobody's: its host key, and who logs in.

Both are handed over at each boot as systemd's system credentials (systemd.exec(5), "Credentials"),
so that nothing is written into the image, and the guest's key is known before its first boot.
"""

from __future__ import annotations

from pathlib import Path

from tasks.machines import keys

# See host-keys.service.
_HOST_KEY = "ssh_host_ed25519_key"
# tmpfiles.d(5). The well-known key that a box is shipped with lets nobody into this guest.
_LOGIN = """\
d /home/{user}/.ssh 0700 {user} {user}
f+ /home/{user}/.ssh/authorized_keys 0600 {user} {user} - {key}\\n
"""


def make(folder: Path, user: str, user_key: Path) -> tuple[keys.Identity, dict[str, Path]]:
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
    public = keys.make_key(host_key)
    login.write_text(_LOGIN.format(user=user, key=keys.make_key(user_key)))
    identity = keys.Identity(user=user, user_key=user_key, host_key=public)
    return identity, {host_key.name: host_key, login.name: login}
