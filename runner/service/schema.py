"""The schema of an evaluation: the fields that its items have, including results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from runner.service.standing import Standings
from runner.service.store import Record
from runner.service.tasks import names_of

__all__ = ["fields_of", "flat"]

_MOST_SAMPLED = 10_000
_TYPES: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number", dict: "object", list: "array"}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of an object with their paths. Nested objects are opened, lists are not."""
    if isinstance(value, dict) and (value or not path):
        for name, member in value.items():
            yield from flat(member, f"{path}.{name}" if path else name)
    else:
        yield path, value


def fields_of(standings: Standings, record: Record) -> dict[str, Any]:
    """Return the schema of an evaluation, from its first 10,000 items. Raises StorageError, OSError."""
    aliases = {name for task in record.tasks for name in names_of(task)}
    counts: Counter[tuple[str, str, str]] = Counter()
    sampled = min(record.rows, _MOST_SAMPLED)
    for items in standings.batches(record, sampled):
        for item in items:
            for path, value in flat(item["data"]):
                source = "task_result_cache" if path.partition(".")[0] in aliases or path in aliases else "data"
                counts[path, _TYPES.get(type(value), "null"), source] += 1
    fields = [
        {"field_name": name, "data_type": kind, "item_count": count, "source": source, "object": "field_schema"}
        for (name, kind, source), count in sorted(counts.items())
    ]
    return {
        "evaluation_id": record.id,
        "object": "evaluation_schema",
        "fields": fields,
        "total_items": record.rows,
        "is_sampled": sampled < record.rows,
        "sample_size": sampled if sampled < record.rows else None,
    }
