#!/bin/sh
# udev has settled, and the root is awaited: reset it before anything may mount it. Called again and
# again until finished.sh agrees, as local-block is in the initramfs of initramfs-tools.
if [ -d /run/resnap ]; then
	/usr/lib/resnap/resnap block
else
	/usr/lib/resnap/resnap premount
fi
