"""Questions of clients, for judges to answer. Except for its name a question is fixed, so an evaluation knows what was asked.

A line of `questions.jsonl` is a new question, or the changed values of an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import jsontext
from runner.run_ids import new_ulid
from runner.service.kept import Kept, Shelf, append, leaving_out, lines_of

__all__ = ["Question", "Questions", "form_of", "prompt_of"]

#: The member of the judge's JSON that holds the answer to the question.
_MEMBER = "answer"


class Question(Kept, kw_only=True):
    """A question, and its allowed answers."""

    kind = "question"
    changeable = ("name", "archived_at")

    name: str
    prompt: str
    question_type: str
    configuration: dict[str, Any] | None = None
    conditions: list[dict[str, Any]] | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """The part of the question that an evaluation keeps."""
        asked = {"question_type": self.question_type, "prompt": self.prompt, "configuration": self.configuration}
        return asked | ({"conditions": self.conditions} if self.conditions else {})

    def shown(self) -> dict[str, Any]:
        """Return the question as the API shows it."""
        return {
            **self.asked,
            "id": self.id,
            "object": "question",
            "name": self.name,
            "conditions": self.conditions,
            "created_at": self.created_at,
            "created_by": self.creator,
            "archived_at": self.archived_at,
        }


class Questions(Shelf[Question], kw_only=True):
    """All questions of the service."""

    kept = Question

    path: Path

    def load(self) -> None:
        """Load all questions from disk. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for line in lines_of(self.path):
            with leaving_out(self.path):
                self._take(jsontext.decode(line))

    def make(self, account: str, created_by: str, said: Mapping[str, Any]) -> Question:
        """Write a new question. Raises OSError."""
        return self._append({"id": f"question_{new_ulid()}", "account": account, "created_by": created_by, **said})

    def change(self, question: Question, **values: Any) -> Question:
        """Change the name of a question, or whether it is archived. Raises OSError."""
        return self._append({"id": question.id, **values})

    def asked_of(self, account: str) -> dict[str, dict[str, Any]]:
        """Return the questions that tasks of an account may name: those that are not archived, by id."""
        return {one.id: one.asked for one in self.of(account, archived=False)}

    def _append(self, line: dict[str, Any]) -> Question:
        append(self.path, [jsontext.encode(line)])
        return self._take(line)

    def _take(self, line: Mapping[str, Any]) -> Question:
        known = self.records.get(line["id"])
        if known is None:
            known = self.records[line["id"]] = Question(**line)
        else:
            known.take(line)
        return known


def prompt_of(question: Mapping[str, Any]) -> str:
    """Return the system prompt of the judge: the prompt of the question and, for a rating, the labels of its scale."""
    prompt, said = question["prompt"], question["configuration"] or {}
    labels = {1: said.get("min_label"), said.get("steps"): said.get("max_label")}  # only a rating has labels
    scale = "; ".join(f"{step} means: {label}" for step, label in labels.items() if label)
    return "\n\n".join(filter(None, (prompt, scale)))


def form_of(question: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the configuration that guides a judge to an allowed answer; None for types that judges cannot answer."""
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
