#!/bin/bash
# dracut's module: adds the reset, its settings and device-mapper's snapshot module to the initramfs, as
# /etc/initramfs-tools/hooks/resnap does for initramfs-tools.

check() {
	[[ -e /etc/default/resnap ]]
}

depends() {
	echo lvm
}

installkernel() {
	hostonly='' instmods dm-mod dm-snapshot
}

install() {
	inst_simple /usr/lib/resnap/resnap
	inst_simple /usr/lib/resnap/lib.sh
	inst_simple /usr/lib/resnap/trial-deadline
	inst_simple /etc/default/resnap
	# shellcheck disable=SC2154 # dracut sets it, and moddir
	/usr/sbin/makeinitrd --digest >"$initdir/usr/lib/resnap/sources"
	inst_multiple lvm dmsetup blkid udevadm mkdir mv sleep
	inst "$(command -v dd)" /usr/lib/resnap/dd
	inst "$(command -v blkdiscard)" /usr/lib/resnap/blkdiscard
	# shellcheck disable=SC2154
	inst_script "$moddir/take-place" /usr/lib/resnap/take-place
	inst_hook cmdline 20 "$moddir/panic.sh"
	inst_hook pre-udev 10 "$moddir/deadline.sh"
	inst_hook initqueue/settled 50 "$moddir/reset.sh"
	inst_hook initqueue/finished 50 "$moddir/finished.sh"
	inst_hook pre-pivot 50 "$moddir/verdict.sh"
	inst_hook shutdown-emergency 50 "$moddir/pause.sh"
	dracut_need_initqueue
}
