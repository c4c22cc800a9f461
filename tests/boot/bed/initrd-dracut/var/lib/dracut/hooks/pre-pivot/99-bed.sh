#!/bin/sh
# The last step before the system on the root, which the bed's script takes the place of.
# shellcheck disable=SC2154 # dracut sets root
export rootmnt="$NEWROOT" ROOT="${root#block:}"
exec /scripts/init-bottom/bed
