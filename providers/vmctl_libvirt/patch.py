"""The ``xml:`` escape hatch: a fragment of domain XML, parsed, checked and merged element by element."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from vmctl_libvirt import domain_mark, xml_text

OWN = frozenset({"name", "uuid", "metadata"})
"""vmctl finds its machines by these."""
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"


class BadPatch(ValueError):
    """The fragment cannot be used; the text says why."""


def parse_patch(text: str) -> list[ET.Element]:
    """The elements to merge: the children of ``<domain>``, or the one element given.

    Raises:
        BadPatch: no well-formed XML, a document type (entities could expand without end), or vmctl's own element.
    """
    if "<!DOCTYPE" in text:
        raise BadPatch("must not hold a document type")
    try:
        root = xml_text.parse(text)
    except ET.ParseError as error:
        raise BadPatch(f"is not well-formed XML with one root element: {error}") from error
    elements = list(root) if root.tag == "domain" else [root]
    for element in elements:
        if element.tag in OWN:
            raise BadPatch(f"must not change <{element.tag}>, by which vmctl finds its machines")
    return elements


def apply_patch(domain_xml: str, patch: str) -> str:
    """``domain_xml`` with the fragment merged in.

    What stands inside ``<devices>`` (and QEMU's ``<commandline>``) is added; any other element takes the place of
    the one of the same name.
    """
    register_prefixes()
    domain = xml_text.parse(domain_xml)
    for element in parse_patch(patch):
        present = domain.find(element.tag)
        if present is None:
            domain.append(element)
        elif element.tag in ("devices", f"{{{QEMU_NAMESPACE}}}commandline"):
            present.extend(element)
        else:
            domain[list(domain).index(present)] = element
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def register_prefixes() -> None:
    """Have XML written with the prefixes that people know."""
    ET.register_namespace("qemu", QEMU_NAMESPACE)
    ET.register_namespace(domain_mark.PREFIX, domain_mark.NAMESPACE)
