#!/bin/sh
# Before that reboot.
sleep "$(getarg panic=)"
