#!/bin/sh
# The root is mounted: say in /run/resnap what it is.
# shellcheck disable=SC2154 # dracut exports NEWROOT
/usr/lib/resnap/resnap verdict "$NEWROOT"
