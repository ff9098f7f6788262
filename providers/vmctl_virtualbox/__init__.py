"""VirtualBox, driven through VBoxManage."""

from vmctl_virtualbox.driver import VirtualBoxDriver

__all__ = ["VirtualBoxDriver"]
