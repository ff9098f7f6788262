"""The libvirt provider: QEMU/KVM machines through libvirt, in system or in session mode.

Importing this package needs no libvirt library; ``LibvirtDriver(host).usable()`` says what is missing.
"""

from vmctl_libvirt.driver import LibvirtDriver

__all__ = ["LibvirtDriver"]
