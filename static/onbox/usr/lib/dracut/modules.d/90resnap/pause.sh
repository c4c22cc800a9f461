#!/bin/sh
# Waits panic=SECONDS before dracut reboots.
sleep "$(getarg panic=)"
