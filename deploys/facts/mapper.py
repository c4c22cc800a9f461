"""The name that device-mapper gives a logical volume."""


def mapper_path(vg: str, lv: str) -> str:
    """``/dev/mapper/vagrant--pipeline-root``.

    Origin and snapshot have the same filesystem UUID, so only this name tells them apart.
    """
    return f"/dev/mapper/{mapper_name(vg, lv)}"


def mapper_name(vg: str, lv: str) -> str:
    """``vagrant--pipeline-root``: LVM doubles the hyphens within both names.

    static/onbox/usr/lib/resnap/lib.sh has the same rule for the scripts of a box.
    """
    return f"{vg.replace('-', '--')}-{lv.replace('-', '--')}"
