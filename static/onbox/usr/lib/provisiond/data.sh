# shellcheck shell=sh
# What lies in /persistent outlives each reset, and may be of somebody who was root before one. The scripts of
# a box run nothing from there and read it as data alone.

# is_data FILE BYTES: whether FILE is a regular file of root's, no link, which nobody else can write, and is
# not larger than this. A FIFO or a link would have root wait, or write elsewhere.
is_data() {
	[ -n "$(find "$1" -maxdepth 0 -type f -user "$(id -u)" ! -perm /022 ! -size "+${2}c" 2>/dev/null)" ]
}

# own_folder FOLDER: have a folder of root's there, where nobody else writes. What is no folder is removed.
own_folder() {
	if [ -d "$1" ] && [ ! -L "$1" ]; then
		chown "$(id -u)" "$1" && chmod go-w "$1"
	else
		rm -rf "$1" && mkdir -p "$1"
	fi
}

# write_data FILE: what comes in becomes FILE, a plain file of root's, in place of whatever lies there. FILE is
# the old one or the new one whenever the power fails.
write_data() {
	! { own_folder "${1%/*}" && rm -rf "$1.new" && cat >"$1.new" && replace_data "$1"; } || return 0
	rm -rf "$1.new"
	return 1
}

# replace_data FILE: FILE.new becomes FILE.
replace_data() {
	sync "$1.new" && { [ ! -d "$1" ] || [ -L "$1" ] || rm -rf "$1"; } && mv -fT "$1.new" "$1"
}
