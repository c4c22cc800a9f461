#!/bin/sh
# Makes panic=SECONDS mean to dracut what it means to initramfs-tools: a reboot, not a shell.
if getarg panic= >/dev/null; then
	mkdir -p /etc/cmdline.d
	echo 'rd.shell=0 rd.emergency=reboot' >/etc/cmdline.d/90-resnap.conf
fi
