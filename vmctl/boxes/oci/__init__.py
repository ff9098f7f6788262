"""Boxes in OCI registries, ``oci://REGISTRY/REPOSITORY``: Docker's, GitLab's, Harbor, Quay and whatever keeps images.

Formats: OCI image and distribution specifications, 1.0 and 1.1 as far as registries of 1.0 take it.
"""
