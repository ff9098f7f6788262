#!/bin/sh
# A script that Vmfile.example names.
set -eu
date -u +"set up at %FT%TZ" >> /var/log/setup.log
