"""Boxes: the images that machines start from; where they are kept, how they come in, how they are built.

    find(ref, home)      the box in the store that a Vmfile means, or None; quick, no network
    ensure(ref, home)    the same, fetched or built where it is absent
    box_defaults(home)   what boxes say of machines made from them, for the Vmfile's loader

``vmctl.boxes.box_store`` lists, adds and removes; ``vmctl.boxes.adding`` takes in files and URLs;
``vmctl.boxes.box_build`` makes boxes from recipes.
"""

from __future__ import annotations

from vmctl.boxes.box import Box
from vmctl.boxes.finding import box_defaults, ensure, find

__all__ = ["Box", "box_defaults", "ensure", "find"]
