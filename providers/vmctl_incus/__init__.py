"""vmctl's provider for Incus and LXD: system containers."""

from vmctl_incus.driver import IncusDriver

__all__ = ["IncusDriver"]
