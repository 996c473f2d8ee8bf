"""Plug-ins: what installed packages offer by name, in the groups `runner.metrics` and `runner.tasks` of their entry points.

Nothing is loaded here, and a package is only looked for where a config names what is not built in.
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
    """What a package offers."""

    name: str
    #: Where it is: a module, and the name in it.
    module: str
    attribute: str
    package: str
    version: str

    @property
    def where(self) -> str:
        """As its package names it."""
        return f"{self.module}:{self.attribute}"

    def __str__(self) -> str:
        """Return the package and its version."""
        return f"{self.package} {self.version}"


def offers(group: str) -> Mapping[str, list[Offer]]:
    """Return all that is offered in a group, by name; two packages may offer the same."""
    found: dict[str, list[Offer]] = {}
    for offer in sorted(map(_offer, entry_points(group=group)), key=str):
        found.setdefault(offer.name, []).append(offer)
    return found


def offer_of(group: str, name: str) -> Offer | None:
    """Return what is offered by a name, or None. Raises ValueError where several packages do."""
    found = offers(group).get(name, [])
    if len(found) > 1:
        raise ValueError(f"{name!r} is offered by {' and by '.join(map(str, found))}; uninstall all but one of them")
    return found[0] if found else None


def loaded_offer(offer: Offer) -> Any:
    """Return what is offered itself. Raises ValueError where it cannot be loaded."""
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
