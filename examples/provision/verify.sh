#!/bin/sh
# Runs in every machine; a status other than 0 fails the test.
grep -q "^Served on port" /etc/motd
