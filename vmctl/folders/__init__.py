"""The project's folders inside the guest: mounted live where host and guest can, else copied by rsync."""

from vmctl.folders.guest import attach
from vmctl.folders.offer import login_uid, shares, tag
from vmctl.folders.watch import watch

__all__ = ["attach", "login_uid", "shares", "tag", "watch"]
