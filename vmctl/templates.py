"""The only door to Jinja2 for files that ship inside a package (libvirt's XML, for one).

Unknown names are errors, and values are escaped wherever the result is XML. Expressions in a Vmfile are another
matter: ``vmctl.vmfile`` evaluates those in a sandbox.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

XML_SUFFIXES = ("xml", "xml.j2")


def render(package: str, template: str, /, **values: Any) -> str:
    """The ``template`` that lies inside ``package``, filled with ``values``.

    Raises:
        jinja2.TemplateError: the template is wrong or lacks a value; a defect of the package, never the user's.
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape  # heavy: only where XML is made

    return Environment(
        loader=PackageLoader(package, ""),
        undefined=StrictUndefined,
        autoescape=select_autoescape(XML_SUFFIXES),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
