"""Where WordNet's files lie, which METEOR finds synonyms in: looked up without NLTK, which takes its time to load."""

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
    """Return the directory that WORDNET_DIR names; None where NLTK is to look in its own places."""
    return os.environ.get("WORDNET_DIR") or None


def what_is_missing() -> str | None:
    """Return what has to be done before there is a WordNet, or None."""
    own = own_directory()
    if own is not None:
        return None if Path(own, "index.noun").is_file() else f"WORDNET_DIR is {own!r}, where no index.noun lies; {_HOW}"
    found = (Path(place, "corpora", name) for place in _places_of_nltk() for name in ("wordnet", "wordnet.zip"))
    return None if any(path.exists() for path in found) else f"WordNet is not there; {_HOW}"


def _places_of_nltk() -> list[Path]:
    named = [Path(place).expanduser() for place in os.environ.get("NLTK_DATA", "").split(os.pathsep) if place]
    below = [Path(sys.prefix), *(Path(sys.prefix, name) for name in ("share", "lib"))]
    system = [Path("/usr", *names) for names in (("share",), ("local", "share"), ("lib",), ("local", "lib"))]
    return [*named, *(place / "nltk_data" for place in (Path.home(), *below, *system))]
