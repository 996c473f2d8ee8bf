"""The directory of WordNet, where METEOR finds synonyms. It is found without NLTK, which is slow to load."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["own_directory", "what_is_missing"]

_HOW = (
    "set WORDNET_DIR to the directory of its files (/usr/share/wordnet of Debian's package wordnet-base), "
    "or NLTK_DATA to one that holds corpora/wordnet or corpora/wordnet.zip"
)


def own_directory() -> str | None:
    """Return the directory that WORDNET_DIR names; None if NLTK is to look in its own directories."""
    return os.environ.get("WORDNET_DIR") or None


def what_is_missing() -> str | None:
    """Return what is missing for WordNet and how to get it, or None."""
    own = own_directory()
    if own is not None:
        return None if Path(own, "index.noun").is_file() else f"WORDNET_DIR is {own!r}, which has no file index.noun; {_HOW}"
    found = (Path(place, "corpora", name) for place in _places_of_nltk() for name in ("wordnet", "wordnet.zip"))
    return None if any(path.exists() for path in found) else f"WordNet was not found; {_HOW}"


def _places_of_nltk() -> list[Path]:
    named = [Path(place).expanduser() for place in os.environ.get("NLTK_DATA", "").split(os.pathsep) if place]
    below = [Path(sys.prefix), *(Path(sys.prefix, name) for name in ("share", "lib"))]
    system = [Path("/usr", *names) for names in (("share",), ("local", "share"), ("lib",), ("local", "lib"))]
    return [*named, *(place / "nltk_data" for place in (Path.home(), *below, *system))]
