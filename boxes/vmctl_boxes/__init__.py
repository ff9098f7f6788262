"""Boxes that vmctl knows how to make: one directory of data each, with a ``recipe.toml``. Facts only, no code."""

from pathlib import Path

RECIPES = Path(__file__).parent
ALIASES = RECIPES / "aliases.toml"
"""What takes the place of well-known names of boxes whose server ends."""
PUBLISHED_KEY = RECIPES / "keys" / "published"
"""The private SSH key that Vagrant has always published (keys/vagrant of its source, MIT)."""
