"""Finds the secrets in a config, its environment and its headers, by their names and by where they come from.

A value that `${VAR}` brings into a header, or into the query or user part of a URL, is a secret whatever its name: a value that
everybody may read needs no variable. These are not secrets: placeholders (see `is_secret`), dates that name the version of an
API, and values that are shown anyway, such as names, models and the address of the endpoint.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit, urlunsplit

from runner.config.file import Variable, put_in
from runner.keypaths import KeyPath
from runner.secrets.redaction import QUERY_NAME, SECRET_NAME, is_secret, secrets_in, without_scheme
from runner.tasks.base import tasks_in

__all__ = [
    "DEFAULT_KEY",
    "brought_in",
    "in_document",
    "in_endpoint",
    "in_environment",
    "in_url",
    "key_in",
    "looks_like_a_key",
    "of_stores",
    "without_keys",
]

#: The environment variable that holds the key, if the config names none.
DEFAULT_KEY = "OPENAI_API_KEY"
_BASIC = re.compile(r"Basic\s+([A-Za-z0-9+/_-]+=*)\s*", re.IGNORECASE)
#: The variables from which the libraries of dataset stores read credentials.
_OF_STORES = re.compile(r"AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN)|HF_TOKEN|HUGGING_FACE_HUB_TOKEN")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:-preview)?")
#: The values in the query of a URL, and the user part before its host.
_IN_URL = re.compile(r"[?&](?:[^=&#]*=)?([^&#]*)|//([^/?#]*)@")


def brought_in(document: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the values that variables bring into headers, and into the query and user part of base URLs and dataset URLs.

    `document` is the config with its variables unexpanded. If a value holds several variables, the text from the first to the
    last is a secret too. A default is text of the config, and a secret only if the name of the variable says so.
    """
    for one in _paths_of(document):
        yield from _brought_into(one, environment)
    shown = _shown(document, environment)
    for _, section in sections(document):
        yield from _brought_into_section(section, shown, environment)


def sections(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Yield the sections of a config that describe an endpoint, each with its path, as far as they are mappings."""
    if isinstance(endpoint := document.get("endpoint"), dict):
        yield ("endpoint",), endpoint
    others = document.get("endpoints")
    for name, section in others.items() if isinstance(others, dict) else ():
        if isinstance(section, dict):
            yield ("endpoints", name), section


def _urls_of(section: Mapping[str, Any]) -> Iterator[str]:
    """Yield the base URLs of a section: one, or one for each server."""
    for given in (section.get("base_url"), section.get("servers")):
        for one in given if isinstance(given, list) else [given]:
            url = one.get("base_url") if isinstance(one, dict) else one
            if isinstance(url, str):
                yield url


def _brought_into_section(section: Mapping[str, Any], shown: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    headers = section.get("headers")
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if isinstance(value, str):
            text, variables = put_in(value, environment)
            for secret in _within(text, variables, 0, len(text)):
                if SECRET_NAME.search(name) or not (_DATE.fullmatch(secret) or any(secret in one for one in shown)):
                    yield from (secret, without_scheme(secret))
            if variables:
                yield from _in_basic(text)
    for url in _urls_of(section):
        yield from _brought_into(url, environment)


def _paths_of(document: Mapping[str, Any]) -> list[str]:
    """Return the URLs of a config's dataset."""
    dataset = document.get("dataset")
    paths = dataset.get("path") if isinstance(dataset, dict) else dataset
    return [one for one in (paths if isinstance(paths, list) else [paths]) if isinstance(one, str) and "://" in one]


def _brought_into(url: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the values that variables bring into the query and user part of a URL."""
    text, variables = put_in(url, environment)
    for place in _IN_URL.finditer(text):
        found = _within(text, variables, *place.span(place.lastindex or 0))
        yield from (secret for secret in found if not _DATE.fullmatch(secret))


def in_document(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values in a config whose names say that they are secrets."""
    yield from (secret for _, secret in secrets_in(document))


def in_endpoint(headers: Mapping[str, str], base_url: str) -> Iterator[str]:
    """Yield the values of headers and of a URL's query whose names say that they are secrets."""
    for name, value in headers.items():
        if SECRET_NAME.search(name):
            yield from (value, without_scheme(value), *_in_basic(value))
    yield from in_url(base_url)


def in_url(url: str) -> Iterator[str]:
    """Yield the values of a URL's query whose names say that they are secrets, decoded and as they are written."""
    for member in urlsplit(url).query.split("&"):
        name, _, value = member.partition("=")
        if QUERY_NAME.search(unquote(name)):
            yield from (unquote_plus(value), value)


def of_stores(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the credentials for the stores of datasets."""
    yield from (value for name, value in environment.items() if _OF_STORES.fullmatch(name))


def in_environment(environment: Mapping[str, str], api_key_env: str | None) -> Iterator[str]:
    """Yield the key, and the secrets in the URLs of proxies."""
    yield key_in(environment, api_key_env) or ""
    for name, url in environment.items():
        if name.lower().endswith("_proxy"):
            yield from _in_proxy(url)


def key_in(environment: Mapping[str, str], name: str | None) -> str | None:
    """Return the key of an endpoint whose `api_key_env` is `name`, or None."""
    return environment.get(name or DEFAULT_KEY, "").strip() or None


def looks_like_a_key(name: str) -> bool:
    """Return whether a text that should be the name of a variable is more likely its value."""
    return is_secret(name) and not name.isupper() and any(map(str.isdigit, name))


def without_keys(url: str) -> str:
    """Return a URL without keys in its query."""
    parts = urlsplit(url)
    kept = [member for member in parts.query.split("&") if not QUERY_NAME.search(member.partition("=")[0])]
    return urlunsplit(parts._replace(query="&".join(kept)))


def _in_basic(value: str) -> Iterator[str]:
    """Yield the secrets in a header value of `Basic` and base64."""
    if found := _BASIC.fullmatch(value):
        letters = found[1].rstrip("=").translate(str.maketrans("-_", "+/"))
        with suppress(ValueError):
            content = base64.b64decode(letters + "=" * (-len(letters) % 4))
            for encoding in ("utf-8", "latin-1"):
                yield from _in_user(content.decode(encoding, "replace"))


def _in_proxy(url: str) -> Iterator[str]:
    """Yield the password of a proxy's URL, as it is written and decoded, alone and after the user."""
    user, mark, password = url.rpartition("@")[0].rpartition("//")[2].partition(":")
    for one in (password, unquote(password)):
        yield from (*_in_user(f"{user}{mark}{one}"), *_in_user(f"{unquote(user)}{mark}{one}"))


def _in_user(text: str) -> Iterator[str]:
    """Yield the secrets of `user:password`. If the password is only a placeholder, the user is a key."""
    user, _, password = text.partition(":")
    yield from (text, password if is_secret(password) else user)


def _within(text: str, variables: Sequence[Variable], start: int, end: int) -> Iterator[str]:
    """Yield the values that variables brought into a range of a text, and the text from the first to the last of them."""
    brought = [one for one in variables if one.source == "environment" or SECRET_NAME.search(one.name)]
    inside = [(max(one.start, start), min(one.end, end)) for one in brought if one.start < end and one.end > start]
    if inside:
        inside.append((inside[0][0], inside[-1][1]))
    yield from dict.fromkeys(text[first:last].strip() for first, last in inside)


def _shown(document: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Return the texts that every row of the results, or their path, shows anyway."""
    models = [configuration.get("model") for _, _, configuration in tasks_in(document.get("tasks"))]
    written = [url for _, section in sections(document) for url in _urls_of(section)]
    urls = [put_in(url, environment)[0].partition("?")[0].rpartition("@")[2] for url in written]
    return [*urls, *(put_in(one, environment)[0] for one in (document.get("name"), *models) if isinstance(one, str))]
