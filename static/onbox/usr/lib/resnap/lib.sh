# shellcheck shell=sh
# Words that the scripts of a box share. They read this file; the initramfs carries it too, so it uses
# the shell's builtins alone.
#
# PIPELINE_ROOT: a directory that stands for / (for tests; not set on a box).

# mapper_name VOLGROUP VOLUME: the volume's name in /dev/mapper. LVM doubles the hyphens of both.
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

# Whether the root is a snapshot that this boot's reset took anew or kept: then the verdict
# (/usr/lib/resnap/resnap) left this file.
in_snapshot() {
	[ -e "${PIPELINE_ROOT:-}/run/resnap/in-snapshot" ]
}

# Whether the reset failed. The root may be the old snapshot then, or the golden root.
reset_failed() {
	[ -e "${PIPELINE_ROOT:-}/run/resnap/failed" ]
}
