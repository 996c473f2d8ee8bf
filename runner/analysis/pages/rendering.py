"""A page from its template: text is escaped, one script may run, and nothing is ever loaded.

What others wrote reaches a page as text only. The policy that each page carries lets nothing run but the script whose hash
it names, and nothing be fetched; so a page shows the same offline, in a mail, and on a CI server that forbids scripts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from runner.analysis.pages.characters import legal
from runner.analysis.pages.scales import shown

__all__ = ["render"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


class _Packaged(BaseLoader):
    """Finds templates in this package, by `page.html.j2` or `report/report.html.j2`."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:  # noqa: ARG002  as its base has it
        try:
            return _file(template), None, None
        except OSError as error:
            raise TemplateNotFound(template) from error


@cache
def _file(name: str) -> str:
    return files("runner.analysis").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=_Packaged(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters["shown"] = shown
    return environment


def _finalized(value: Any) -> Any:
    return legal(value) if type(value) is str else value


def render(template: str, values: Mapping[str, Any], *, scripts: Sequence[str]) -> str:
    """Return a page; `template` and `scripts`, which become one, are files below `runner/analysis`."""
    code = "".join(map(_file, scripts))
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = f"{_POLICY}; script-src 'sha256-{digest}'"
    frame = {"policy": policy, "style": Markup(_file("pages/style.css")), "script": Markup(code)}  # noqa: S704  both are this program's
    return _environment().get_template(template).render(**values, **frame)
