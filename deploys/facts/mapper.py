"""Where device-mapper puts a logical volume."""


def mapper_path(vg: str, lv: str) -> str:
    """``/dev/mapper/vagrant--pipeline-root``.

    Origin and snapshot carry one filesystem UUID, so only this name tells them apart.
    """
    return f"/dev/mapper/{mapper_name(vg, lv)}"


def mapper_name(vg: str, lv: str) -> str:
    """``vagrant--pipeline-root``: LVM doubles the hyphens within both names.

    The scripts of a box have the same in static/onbox/usr/lib/resnap/lib.sh.
    """
    return f"{vg.replace('-', '--')}-{lv.replace('-', '--')}"
