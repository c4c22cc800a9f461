# shellcheck shell=sh
# Functions that the scripts of a box share. The initramfs contains this file too, so all but reboot_now
# use only the shell's builtins.
#
# PIPELINE_ROOT: a directory that stands for / (for tests; not set on a box).

# mapper_name VOLGROUP VOLUME: print the volume's name in /dev/mapper. LVM doubles each hyphen of both.
mapper_name() {
	echo "$(double_hyphens "$1")-$(double_hyphens "$2")"
}

double_hyphens() {
	rest=$1 doubled=
	while [ "${rest#*-}" != "$rest" ]; do
		doubled=$doubled${rest%%-*}--
		rest=${rest#*-}
	done
	echo "$doubled$rest"
}

# Whether the root is a snapshot, fresh or kept. /usr/lib/resnap/resnap leaves this file then.
in_snapshot() {
	[ -e "${PIPELINE_ROOT:-}/run/resnap/in-snapshot" ]
}

# Whether the reset failed. Then the root is the old snapshot or the golden root.
reset_failed() {
	[ -e "${PIPELINE_ROOT:-}/run/resnap/failed" ]
}

# has_modules VERSION: whether the modules of a kernel are installed. A copy such as vmlinuz-VERSION.old has
# none: its initrd finds no disk.
has_modules() {
	[ -e "${PIPELINE_ROOT:-}/lib/modules/$1/modules.dep" ]
}

# Reboots although a program has asked systemd to block shutdowns: the box may not wait for that program.
reboot_now() {
	systemctl reboot --check-inhibitors=no
}
