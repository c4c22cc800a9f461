"""VirtualBox as a provider of guests, which are boxes."""

from __future__ import annotations

from tasks.guests import Order, Provider, virtualbox
from tasks.guests.virtualbox import manage


def start(order: Order) -> virtualbox.Guest:
    """Make the guest if there is none, start it if it is off, and learn its host key.

    Raises:
        BoxError: this fails.
    """
    manage.run("--version")  # fail here, not after minutes of building
    guest = virtualbox.Guest.find(order.directory)
    if guest is not None and not guest.is_complete:
        guest.destroy()
        guest = None
    settings = order.settings
    if guest is None:
        built = order.box_image()
        order.step("making the guest in VirtualBox")
        user = settings.image.user
        guest = virtualbox.Guest.make(order.directory, built, user, order.user_key)
    if not guest.alive:
        order.step("starting the guest in VirtualBox")
        guest.start(settings.guest.memory, settings.guest.cpus)
    order.step("waiting for the guest's host key")
    guest.learn_host_key(settings.boot.reboot_deadline)
    return guest


PROVIDER = Provider(
    name="virtualbox",
    title="VirtualBox",
    guest=virtualbox.Guest,
    start=start,
    programs={manage.PROGRAM: manage.PACKAGE, "qemu-img": "qemu-utils"},
    bare=False,
    finalizes=False,
)
