"""vmctl: from one Vmfile to running, shared, provisioned virtual machines."""

__version__ = "0.1.0"
