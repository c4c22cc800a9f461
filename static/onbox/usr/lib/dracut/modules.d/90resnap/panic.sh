#!/bin/sh
# panic=SECONDS means to dracut what it means to initramfs-tools: no shell, but a reboot.
if getarg panic= >/dev/null; then
	mkdir -p /etc/cmdline.d
	echo 'rd.shell=0 rd.emergency=reboot' >/etc/cmdline.d/90-resnap.conf
fi
