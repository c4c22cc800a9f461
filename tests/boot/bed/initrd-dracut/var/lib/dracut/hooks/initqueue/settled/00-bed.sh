#!/bin/sh
# What initramfs-tools' init sources before anything else, in the shell that starts the reset.
# shellcheck source=tests/boot/bed/initrd/conf/conf.d/bed
[ -e /bed/calls ] || . /conf/conf.d/bed
