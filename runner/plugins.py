"""Plug-ins of installed packages, by name, in the groups `runner.metrics` and `runner.tasks` of their entry points.

Packages are searched only if a config names something that is not built in. Only `loaded_offer` imports one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from runner.structs import Struct

__all__ = ["METRICS_GROUP", "TASKS_GROUP", "Offer", "loaded_offer", "offer_of", "offers"]

METRICS_GROUP = "runner.metrics"
TASKS_GROUP = "runner.tasks"


class Offer(Struct, frozen=True):
    """A metric or a task that a package offers."""

    name: str
    #: The module, and the name in it.
    module: str
    attribute: str
    package: str
    version: str

    @property
    def where(self) -> str:
        """The object reference, `module:attribute`, of its entry point."""
        return f"{self.module}:{self.attribute}"

    def __str__(self) -> str:
        """Return the package and its version."""
        return f"{self.package} {self.version}"


def offers(group: str) -> Mapping[str, list[Offer]]:
    """Return all offers of a group, by name; several packages may offer the same name."""
    found: dict[str, list[Offer]] = {}
    for offer in sorted(map(_offer, entry_points(group=group)), key=str):
        found.setdefault(offer.name, []).append(offer)
    return found


def offer_of(group: str, name: str) -> Offer | None:
    """Return the offer of a name, or None. Raises ValueError if several packages offer it."""
    found = offers(group).get(name, [])
    if len(found) > 1:
        raise ValueError(f"{name!r} is offered by {' and by '.join(map(str, found))}; uninstall all but one of them")
    return found[0] if found else None


def loaded_offer(offer: Offer) -> Any:
    """Import an offer and return the object. Raises ValueError if it cannot be loaded."""
    try:
        return reduce(getattr, offer.attribute.split("."), import_module(offer.module))
    except Exception as error:  # whatever its package raises
        raise ValueError(
            f"{offer.name!r} of {offer}: {offer.where} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def _offer(entry: EntryPoint) -> Offer:
    about = entry.dist
    package, version = ("?", "?") if about is None else (about.name, about.version)
    module, _, attribute = entry.value.partition("[")[0].strip().partition(":")
    return Offer(name=entry.name, module=module.strip(), attribute=attribute.strip(), package=package, version=version)
