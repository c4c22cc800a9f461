#!/bin/sh
# The root is mounted: write the verdict to /run/resnap.
# shellcheck disable=SC2154 # dracut exports NEWROOT
/usr/lib/resnap/resnap verdict "$NEWROOT"
