#!/bin/sh
# Starts the deadline of a trial's boot before anything can hang.
/usr/lib/resnap/trial-deadline &
