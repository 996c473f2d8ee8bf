"""evaluation.json: the Evaluation object of Scale's SGP v5 API, with `totals` in addition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.run_ids import created_at
from runner.structs import Struct, field

__all__ = ["About", "evaluation_object", "final_status", "progress_of"]


class About(Struct, frozen=True, kw_only=True):
    """The description of an evaluation, without secrets."""

    name: str
    description: str | None
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    #: As in the config.
    tasks: Sequence[Any]
    #: The plug-ins, by name: package and version, or the SHA-256 of files.
    plug_ins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def evaluation_object(
    run_id: str,
    about: About,
    *,
    status: str,
    status_reason: str | None = None,
    prices_used: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the object before the results are counted; `status` is running, completed or failed.

    `prices_used` are the prices of the answers, if any were used.
    """
    return {
        "id": run_id,
        "object": "evaluation",
        "name": about.name,
        "description": about.description,
        "status": status,
        "status_reason": status_reason,
        "created_at": created_at(run_id).isoformat(),
        "tags": about.tags,
        "metadata": about.metadata,
        "tasks": about.tasks,
        "error_count": 0,
        "progress": progress_of(None, None, [], failed=None),
        **({} if prices_used is None else {"prices_used": prices_used}),
        **({"plug_ins": about.plug_ins} if about.plug_ins else {}),
    }


def final_status(stopped: str | None) -> str:
    """Return the status of a run that has ended, by the reason why it stopped early; None if it finished."""
    return "completed" if stopped is None else "failed"


def progress_of(
    items: int | None, successful: int | None, failed_items: Sequence[Mapping[str, Any]], *, failed: int | None
) -> dict[str, Any]:
    """Return the object's progress: the numbers of items, those with only answers, those with an error (None: unknown)."""
    pending = None if items is None or successful is None or failed is None else items - successful - failed
    return {
        "items": {
            "total": items,
            "successful": successful,
            "failed": failed,
            "pending": pending,
            "failed_items": failed_items,
        },
        "workflows": {"total": items, "completed": successful, "failed": failed, "pending": pending},
    }
