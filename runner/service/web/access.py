"""Access to pages: people enter the key once, and a cookie keeps it, which no script and no other site can use.

Pages are rendered on the server, and may only run the scripts of this service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache, wraps
from typing import Any
from urllib.parse import quote, urlsplit

from aiohttp import web

from runner.analysis.pages.rendering import environment_of, file_of, own, source_of
from runner.service.asking import SERVICE, enter
from runner.service.refusals import Refusal

__all__ = ["acting", "check_origin", "led_to", "page", "remembered", "rendered"]

#: The cookies with the key and the account.
_KEY, _ACCOUNT = "runner_key", "runner_account"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def page(handler: _Handler) -> _Handler:
    """Return a handler of a page, which sends callers without a valid key to sign in."""

    @wraps(handler)
    async def shown(request: web.Request) -> web.StreamResponse:
        try:
            _enter(request)
            return await handler(request)
        except Refusal as refusal:
            if refusal.status == 401:  # noqa: PLR2004  the caller is unknown
                return led_to(f"/sign-in?next={quote(request.path_qs)}")
            return rendered("refused.html.j2", {"title": f"{refusal.status}", "why": str(refusal.detail)}, refusal.status)

    return shown


def acting(handler: _Handler) -> _Handler:
    """Return a handler that changes something, and accepts only forms from pages of this service."""

    @page
    @wraps(handler)
    async def checked(request: web.Request) -> web.StreamResponse:
        check_origin(request)
        return await handler(request)

    return checked


def check_origin(request: web.Request) -> None:
    """Raise Refusal unless a page of this service sent the form."""
    if urlsplit(request.headers.get("Origin", "")).netloc != request.host:
        raise Refusal(403, "the form was not sent by a page of this service; reload the page and try again")


def _enter(request: web.Request) -> None:
    service = request.app[SERVICE]
    given = request.cookies.get(_KEY, "") if service.keys else "local"  # a service without keys listens on this machine only
    enter(service, given, request.cookies.get(_ACCOUNT) or "default")


def led_to(path: str) -> web.Response:
    """Return a redirect to another page."""
    return web.Response(status=303, headers={"Location": path})


def remembered(answer: web.Response, request: web.Request, key: str, account: str) -> None:
    """Set the cookies with the key and the account."""
    for name, value in ((_KEY, key), (_ACCOUNT, account)):
        if value:
            answer.set_cookie(name, value, httponly=True, samesite="Strict", secure=request.secure)


def rendered(template: str, values: Mapping[str, Any], status: int = 200) -> web.Response:
    """Return a page from a template."""
    text = environment_of("runner.service.web", "runner.analysis").get_template(template).render(style=_style(), **values)
    return web.Response(
        text=text,
        status=status,
        content_type="text/html",
        headers={"Content-Security-Policy": _policy(), "Cache-Control": "no-store", "X-Frame-Options": "DENY"},
    )


@cache
def _style() -> str:
    return own(file_of("runner.analysis", "pages/style.css") + file_of("runner.service.web", "service.css"))


@cache
def _policy() -> str:
    own = "script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'"
    return f"default-src 'none'; {own}; style-src {source_of(_style())}; base-uri 'none'; frame-ancestors 'none'"
