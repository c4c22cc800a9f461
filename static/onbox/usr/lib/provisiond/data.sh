# shellcheck shell=sh
# What lies in /persistent outlives each reset, and may be of somebody who was root before one. The scripts of
# a box run nothing from there and read it as data alone.

# is_data FILE BYTES: whether FILE is a regular file of root's, no link, which nobody else can write, and is
# not larger than this. A FIFO or a link would have root wait, or write elsewhere.
is_data() {
	[ -n "$(find "$1" -maxdepth 0 -type f -user "$(id -u)" ! -perm /022 ! -size "+${2}c" 2>/dev/null)" ]
}
