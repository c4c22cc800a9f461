"""Where device-mapper puts a logical volume."""


def mapper_path(vg: str, lv: str) -> str:
    """``/dev/mapper/vagrant--pipeline-root``: LVM doubles the hyphens within both names.

    Origin and snapshot carry one filesystem UUID, so only this name tells them apart.
    """
    return f"/dev/mapper/{vg.replace('-', '--')}-{lv.replace('-', '--')}"
