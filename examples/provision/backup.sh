#!/bin/sh
# What a trigger knows is in its environment: VMCTL_EVENT, VMCTL_WHEN, VMCTL_MACHINE, VMCTL_SSH_CONFIG, ...
set -eu
echo "$VMCTL_WHEN $VMCTL_EVENT of $VMCTL_MACHINE: nothing to save yet"
