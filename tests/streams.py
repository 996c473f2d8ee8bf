"""Hypothesis strategies for streamed answers: the bytes that a server could send, together with the answer that they are.

A stream is planned as whole answers first. Their pieces are then interleaved, put into chunks, encoded and framed, each step
in any of the ways that servers have, so that the expected answer never depends on how a stream is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import strategies as st

__all__ = ["TEXT", "Framing", "Stream", "streams"]

T = TypeVar("T")

#: Any text, with an eye to what breaks lines, escapes and UTF-8.
TEXT = st.text(max_size=8) | st.sampled_from(
    ["", " ", "\n\n", "\r\n", "\r", "\u2028", "\x85", "🦜👩‍👩‍👧", "é", "\0", '"', "\\", "[DONE]", "data: x", "\ufeff"]
)
NAME = st.sampled_from(["f", "get_weather", "日", "a" * 40])
_IGNORED = st.sampled_from([":", ": keep-alive", ': data: {"choices":[]}', "event: message", "id: 7", "id", "retry: 1", "x: y"])
#: What comes after the end counts no more, not even an error.
_AFTER_DONE = st.sampled_from(
    ["[DONE]", '{"error":{"message":"late"}}', '{"choices":[{"index":0,"delta":{"content":"more"},"text":"more"}]}', "{"]
)


@dataclass(frozen=True)
class Stream:
    """A stream and its answer."""

    body: bytes
    chat: bool
    #: The choices of the answer, as without streaming.
    choices: list[dict[str, Any]]
    usage: dict[str, int] | None
    #: From this many bytes on it is a whole answer; cut off earlier, it is none.
    whole_from: int
    #: From this many bytes on the usage is there too.
    usage_from: int


@dataclass
class _Plan:
    """A choice: its answer, and the pieces in which it comes."""

    answer: dict[str, Any]
    pieces: list[dict[str, Any]]


@dataclass
class Framing:
    """Writes lines, each with its own line end."""

    ends: Sequence[str] = ("\n",)
    body: bytes = b""
    _lines: int = field(default=0)
    _after_cr: bool = field(default=False)

    def line(self, text: str) -> int:
        """Write a line; return the offset of its end, without what ends it."""
        end = self.ends[self._lines % len(self.ends)]
        if self._after_cr and not text and end == "\n":
            end = "\r\n"  # CR and LF in a row would be one line end
        self.body += text.encode()
        offset = len(self.body)
        self.body += end.encode()
        self._lines, self._after_cr = self._lines + 1, end == "\r"
        return offset

    def event(self, *lines: str) -> None:
        """Write an event."""
        for text in (*lines, ""):
            self.line(text)


@st.composite
def streams(draw: st.DrawFn, *, chat: bool | None = None) -> Stream:
    """Draw a stream."""
    chat = draw(st.integers(0, 3)) > 0 if chat is None else chat
    plans = [draw(_chat_choices() if chat else _text_choices()) for _ in range(draw(st.integers(1, 3)))]
    says_done = draw(st.booleans())
    if len(plans) == 1 and says_done and draw(st.booleans()):
        plans[0].answer["finish_reason"] = plans[0].pieces[-1]["finish_reason"] = None  # only [DONE] ends it, as TGI's
    usage = draw(st.none() | st.builds(_usage, st.integers(0, 9), st.integers(1, 9)))
    chunks = draw(_chunks(plans, "chat.completion.chunk" if chat else "text_completion", usage))
    body, ends, done_at = draw(_framed(chunks, says_done=says_done))
    last = {id(plan): plan.pieces[-1] for plan in plans}
    finishes = [end for chunk, end in zip(chunks, ends, strict=True) if any(p in chunk["choices"] for p in last.values())]
    finished = all(plan.answer["finish_reason"] for plan in plans)
    whole_from = max(finishes) if finished else done_at
    usage_from = max([end for chunk, end in zip(chunks, ends, strict=True) if chunk.get("usage")] or [0])
    choices = [{"index": index, **plan.answer} for index, plan in enumerate(plans)]
    return Stream(body, chat, choices, usage, whole_from, max(usage_from, whole_from))


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _merged(draw: st.DrawFn, lists: Sequence[Sequence[T]]) -> list[T]:
    """Interleave lists; the order inside each stays."""
    turns = draw(st.permutations([number for number, members in enumerate(lists) for _ in members]))
    rest = [iter(members) for members in lists]
    return [next(rest[turn]) for turn in turns]


# --- what is answered ---


@st.composite
def _chat_choices(draw: st.DrawFn) -> _Plan:
    texts, message = draw(_texts())
    calls, call_deltas = draw(_tool_calls())
    if calls:
        message["tool_calls"] = calls
    deltas = _merged(draw, [texts, call_deltas])
    pieces: list[dict[str, Any]] = [{"delta": delta, "finish_reason": None} for delta in deltas]
    if draw(st.booleans()):
        nothing: list[dict[str, Any]] = [{}, {"content": None}, {"content": None, "refusal": None, "tool_calls": []}]
        first = draw(st.sampled_from(nothing))
        pieces.insert(0, {"delta": {"role": "assistant", **first}})
    answer: dict[str, Any] = {"message": message, "finish_reason": _finish(draw, pieces, {"delta": {}})}
    if draw(st.booleans()):
        answer |= _with_logprobs(draw, pieces)
    return _Plan(answer, pieces)


def _finish(draw: st.DrawFn, pieces: list[dict[str, Any]], nothing: dict[str, Any]) -> str:
    """Let the last piece, or one more, say why the choice ends."""
    reason = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    if not pieces or draw(st.booleans()):
        pieces.append(dict(nothing))
    pieces[-1]["finish_reason"] = reason
    return reason


def _with_logprobs(draw: st.DrawFn, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Give pieces logprobs, none, one or several tokens at a time."""
    tokens: list[dict[str, Any]] = []
    for piece in pieces:
        came = [{"token": token, "logprob": -0.5, "bytes": None} for token in draw(st.lists(TEXT, max_size=2))]
        piece["logprobs"] = {"content": came, "refusal": None} if came else draw(st.sampled_from([None, {"content": None}]))
        tokens += came
    heard = [piece["logprobs"] for piece in pieces if piece["logprobs"] is not None]
    if not heard:
        return {}
    content = {"content": tokens or None}
    return {"logprobs": content | {"refusal": None} if any("refusal" in one for one in heard) else content}


@st.composite
def _texts(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return deltas with text, reasoning and a refusal, and the message that they make."""
    reasoning = draw(st.sampled_from([("reasoning",), ("reasoning_content",), ("reasoning", "reasoning_content")]))
    names: dict[str, tuple[str, ...]] = {"content": ("content",), "reasoning": reasoning, "refusal": ("refusal",)}
    parts = draw(st.lists(st.tuples(st.sampled_from(["content", "content", "reasoning", "refusal"]), TEXT), max_size=5))
    message: dict[str, Any] = {"role": "assistant", "content": None}
    deltas: list[dict[str, Any]] = []
    for kind, text in parts:
        deltas.append(dict.fromkeys(names[kind], text))
        for name in names[kind]:
            message[name] = (message.get(name) or "") + text
    return deltas, message


@st.composite
def _tool_calls(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return calls, and the deltas that bring them: one or several fragments each, of one or of several calls."""
    indexed = draw(st.booleans())
    says_id = draw(st.sampled_from(["never", "once", "always"]))
    # What has neither an index nor an id begins a new call with each name.
    says_name = draw(st.sampled_from(["once", "always"])) if indexed or says_id == "always" else "once"
    calls: list[dict[str, Any]] = []
    fragments: list[list[dict[str, Any]]] = []
    for number in range(draw(st.integers(0, 3))):
        name, arguments = draw(NAME), draw(st.lists(TEXT, max_size=3))
        call_id = None if says_id == "never" else f"call_{number}"
        function = {"name": name, "arguments": "".join(arguments)}
        calls.append({"id": call_id, "type": "function", "function": function})
        named = {"name": name} if says_name == "always" else {}
        came: list[dict[str, Any]] = [{"function": {**named, "arguments": text}} for text in arguments]
        came.insert(0, {"function": {"name": name, "arguments": draw(st.sampled_from([None, ""]))}, "type": "function"})
        for place, fragment in enumerate(came):
            fragment.update({"index": number} if indexed else {})
            fragment.update({"id": call_id} if says_id == "always" or (says_id == "once" and place == 0) else {})
        fragments.append(came)
    in_order = _merged(draw, fragments) if indexed else [fragment for came in fragments for fragment in came]
    deltas: list[dict[str, Any]] = []
    for fragment in in_order:
        if deltas and draw(st.integers(0, 2)) == 0:
            deltas[-1]["tool_calls"].append(fragment)
        else:
            deltas.append({"tool_calls": [fragment]})
    return calls, deltas


@st.composite
def _text_choices(draw: st.DrawFn) -> _Plan:
    texts = draw(st.lists(TEXT, max_size=5))
    pieces: list[dict[str, Any]] = [{"text": text, "finish_reason": None} for text in texts]
    reason = _finish(draw, pieces, {"text": ""})
    answer: dict[str, Any] = {"text": "".join(texts), "finish_reason": reason}
    if draw(st.booleans()):
        for number, piece in enumerate(pieces):
            piece["logprobs"] = {"tokens": [piece["text"]], "token_logprobs": [-0.5], "text_offset": [number]}
        tokens = [piece["text"] for piece in pieces]
        count = len(tokens)
        answer["logprobs"] = {"tokens": tokens, "token_logprobs": [-0.5] * count, "text_offset": list(range(count))}
    return _Plan(answer, pieces)


# --- how it is put into chunks ---


@st.composite
def _chunks(draw: st.DrawFn, plans: Sequence[_Plan], kind: str, usage: dict[str, int] | None) -> list[dict[str, Any]]:
    """Put the pieces of all choices into chunks."""
    for index, plan in enumerate(plans):
        for piece in plan.pieces:
            if len(plans) > 1 or draw(st.booleans()):
                piece["index"] = index
    envelope = {"id": "c-1", "object": kind, "created": 7, "model": "m"}
    chunks: list[dict[str, Any]] = []
    for piece in _merged(draw, [plan.pieces for plan in plans]):
        others = chunks[-1]["choices"] if chunks else [piece]
        if draw(st.integers(0, 3)) == 0 and all(other.get("index", 0) != piece.get("index", 0) for other in others):
            others.append(piece)
        else:
            chunks.append({**envelope, "choices": [piece]})
    if usage is not None:
        _add_usage(draw, chunks, envelope, usage)
    if draw(st.booleans()):  # Azure's first chunk
        chunks.insert(0, {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []})
    return chunks


def _add_usage(draw: st.DrawFn, chunks: list[dict[str, Any]], envelope: dict[str, Any], usage: dict[str, int]) -> None:
    where = draw(st.sampled_from(["trailing", "trailing with a choice", "on the last", "everywhere"]))
    if where.startswith("trailing"):
        empty: list[dict[str, Any]] = [{"index": 0, "delta": {}, "text": "", "finish_reason": None}]
        chunks.append({**envelope, "choices": empty if where != "trailing" else [], "usage": usage})
    elif where == "on the last":
        chunks[-1]["usage"] = usage
    for number, chunk in enumerate(chunks):
        if where == "everywhere":
            tokens = usage["completion_tokens"] if chunk is chunks[-1] else min(number, usage["completion_tokens"])
            chunk["usage"] = _usage(usage["prompt_tokens"], tokens)
        elif draw(st.booleans()):
            chunk.setdefault("usage", None)


# --- how it is written ---


@st.composite
def _framed(draw: st.DrawFn, chunks: Sequence[Any], *, says_done: bool) -> tuple[bytes, list[int], int]:
    """Return the bytes, the offset at which each chunk is there, and that of `[DONE]`."""
    framing = Framing(draw(st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1, max_size=5)))
    if draw(st.booleans()):
        framing.body = b"\xef\xbb\xbf"
    ends: list[int] = []
    for chunk in chunks:
        indent = draw(st.sampled_from([None, None, 1]))  # an indented chunk takes several `data` lines
        text = json.dumps(chunk, ensure_ascii=draw(st.booleans()), indent=indent)
        ends.append(_write_event(draw, framing, text.split("\n") if indent else [text]))
    done_at = len(framing.body)
    if says_done:
        done_at = _write_event(draw, framing, ["[DONE]"])
        for text in draw(st.lists(_AFTER_DONE, max_size=2)):
            _write_event(draw, framing, [text])
    body = framing.body
    if draw(st.booleans()):  # some servers forget what ends the last event
        body = body.rstrip(b"\r\n")
    return body, ends, done_at


def _write_event(draw: st.DrawFn, framing: Framing, lines: Sequence[str]) -> int:
    """Write an event, and around it what is to be ignored; return the offset at which its data is there."""
    for text in draw(st.lists(_IGNORED | st.sampled_from(["", "data:\n"]), max_size=2)):
        for line in text.split("\n"):
            framing.line(line)
    offset = 0
    for line in lines:
        offset = framing.line(draw(st.sampled_from(["data: ", "data:"])) + line)
    for line in draw(st.lists(_IGNORED, max_size=1)):
        framing.line(line)
    framing.line("")
    return offset
