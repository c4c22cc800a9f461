#!/bin/sh
# udev has settled and dracut waits for the root: reset it before anything can mount it. dracut calls
# this repeatedly until finished.sh succeeds, as initramfs-tools calls its local-block scripts.
if [ -d /run/resnap ]; then
	/usr/lib/resnap/resnap block
else
	/usr/lib/resnap/resnap premount
fi
