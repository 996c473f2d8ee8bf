"""Questions that clients keep, for judges to answer. All of one but its name is fixed, so an evaluation knows what was asked.

A line of `questions.jsonl` is a new question, or what has changed of one that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import jsontext
from runner.run_ids import created_at, new_ulid
from runner.service.refusals import not_found
from runner.service.store import append, identity, leaving_out, lines_of
from runner.structs import Struct, field

__all__ = ["Question", "Questions", "form_of", "prompt_of"]

#: The member of a judge's answer that is the answer to the question.
_MEMBER = "answer"


class Question(Struct, kw_only=True):
    """A question, and what may be answered."""

    id: str
    account: str
    created_by: str
    name: str
    prompt: str
    question_type: str
    configuration: dict[str, Any] | None = None
    conditions: list[dict[str, Any]] | None = None
    archived_at: str | None = None

    @property
    def created_at(self) -> str:
        """When it was made."""
        return created_at(self.id).isoformat(timespec="milliseconds")

    @property
    def asked(self) -> dict[str, Any]:
        """What an evaluation has to know of it."""
        asked = {"question_type": self.question_type, "prompt": self.prompt, "configuration": self.configuration}
        return asked | ({"conditions": self.conditions} if self.conditions else {})

    def shown(self) -> dict[str, Any]:
        """Return it as the API has it."""
        return {
            **self.asked,
            "id": self.id,
            "object": "question",
            "name": self.name,
            "conditions": self.conditions,
            "created_at": self.created_at,
            "created_by": identity(self.created_by),
            "archived_at": self.archived_at,
        }


class Questions(Struct):
    """All questions."""

    path: Path
    records: dict[str, Question] = field(default_factory=dict)

    def load(self) -> None:
        """Find all that are there. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for line in lines_of(self.path):
            with leaving_out(self.path):
                self._take(jsontext.decode(line))

    def make(self, account: str, created_by: str, said: Mapping[str, Any]) -> Question:
        """Keep a new question. Raises OSError."""
        return self._append({"id": f"question_{new_ulid()}", "account": account, "created_by": created_by, **said})

    def change(self, question: Question, **values: Any) -> Question:
        """Change what may change, its name and whether it is archived. Raises OSError."""
        return self._append({"id": question.id, **values})

    def of(self, account: str) -> dict[str, Question]:
        """Return the questions of an account, in the order in which they were made; threads make more meanwhile."""
        return {one.id: one for one in list(self.records.values()) if one.account == account}

    def asked_of(self, account: str) -> dict[str, dict[str, Any]]:
        """Return what tasks of an account may ask, by the ids of questions that are not archived."""
        return {one.id: one.asked for one in self.of(account).values() if one.archived_at is None}

    def get(self, account: str, question_id: str) -> Question:
        """Return a question of an account, archived or not. Raises Refusal."""
        found = self.records.get(question_id)
        if found is None or found.account != account:
            raise not_found(f"there is no question {question_id!r:.80}")
        return found

    def _append(self, line: dict[str, Any]) -> Question:
        append(self.path, [jsontext.encode(line)])
        return self._take(line)

    def _take(self, line: Mapping[str, Any]) -> Question:
        known = self.records.get(line["id"])
        if known is None:
            known = self.records[line["id"]] = Question(**line)
        else:
            for name in ("name", "archived_at"):
                if name in line:
                    setattr(known, name, line[name])
        return known


def prompt_of(question: Mapping[str, Any]) -> str:
    """Return what a judge is told first: the prompt of a question, and of a rating what both ends of its scale mean."""
    prompt, said = question["prompt"], question["configuration"] or {}
    labels = {1: said.get("min_label"), said.get("steps"): said.get("max_label")}  # only a rating has any
    scale = "; ".join(f"{step} means: {label}" for step, label in labels.items() if label)
    return "\n\n".join(filter(None, (prompt, scale)))


def form_of(question: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what guides a judge to answer a question as it may be; None for types that no judge answers."""
    said = question["configuration"] or {}
    match question["question_type"]:
        case "categorical" if not said.get("multi"):
            return {"choices": said["choices"]}
        case "categorical":
            return _of_schema({"type": "array", "items": {"type": "string", "enum": said["choices"]}, "uniqueItems": True})
        case "rating":
            return _of_schema({"type": "integer", "minimum": 1, "maximum": said["steps"]}, counts=True)
        case "number":
            return _of_schema({"type": "number", **_bounds(said, minimum="min", maximum="max")}, counts=True)
        case "free_text":
            return _of_schema({"type": "string", **_bounds(said, minLength="min_length", maxLength="max_length")})
    return None


def _bounds(said: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {word: said[name] for word, name in names.items() if said.get(name) is not None}


def _of_schema(schema: dict[str, Any], *, counts: bool = False) -> dict[str, Any]:
    whole = {"type": "object", "properties": {_MEMBER: schema}, "required": [_MEMBER], "additionalProperties": False}
    return {"response_format": whole, "output": _MEMBER} | ({"value": _MEMBER} if counts else {})
