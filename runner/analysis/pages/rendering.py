"""Make a page from its template: text is escaped, one script may run, and nothing is ever loaded.

Untrusted text reaches a page as text only. The policy in each page allows only the script whose hash it names, and nothing to
be fetched. So a page looks the same offline, in a mail, and on a CI server that forbids scripts.
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

__all__ = ["environment_of", "file_of", "own", "render", "source_of"]

_HERE = "runner.analysis"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


class _Packaged(BaseLoader):
    """Finds templates in packages, by names such as `page.html.j2` or `report/report.html.j2`."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:  # noqa: ARG002  the base class has it
        try:
            found = next((one for one in self._packages if files(one).joinpath(template).is_file()), self._packages[0])
            return file_of(found, template), None, None
        except OSError as error:
            raise TemplateNotFound(template) from error


@cache
def file_of(package: str, name: str) -> str:
    """Return a text file of a package. Raises OSError."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def environment_of(*packages: str) -> Environment:
    """Return the template environment of packages: all values are escaped, and an unknown name is an error."""
    environment = Environment(
        loader=_Packaged(packages),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters["shown"] = shown
    return environment


def own(text: str) -> Markup:
    """Return a text of this program that is not escaped in a page."""
    return Markup(text)  # noqa: S704  it comes from this program


def source_of(text: str) -> str:
    """Return the hash by which a policy allows a script or a style in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _finalized(value: Any) -> Any:
    return legal(value) if type(value) is str else value


def render(template: str, values: Mapping[str, Any], *, scripts: Sequence[str]) -> str:
    """Return a page; `template` and `scripts`, which are joined to one script, are files below `runner/analysis`."""
    code = "".join(file_of(_HERE, name) for name in scripts)
    policy = f"{_POLICY}; script-src {source_of(code)}"
    frame = {"policy": policy, "style": own(file_of(_HERE, "pages/style.css")), "script": own(code)}
    return environment_of(_HERE).get_template(template).render(**values, **frame)
