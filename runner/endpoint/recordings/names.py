"""The names in recordings: of the SDK's classes, and of files. Pure.

A file is named by the hash that llama-stack's own recorder looks up. It covers the method, the path as llama-stack's client
builds it, the arguments of the SDK call, and the id of a test. Outside of a test there is no id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from runner.types import ErrorType

__all__ = ["BROKEN_CLASSES", "TYPES", "path_below_base", "request_hash", "shared_name"]

#: The SDK's classes for a whole answer and for a chunk, by the path below the base URL.
TYPES = {
    "/chat/completions": (
        "openai.types.chat.chat_completion.ChatCompletion",
        "openai.types.chat.chat_completion_chunk.ChatCompletionChunk",
    ),
    "/completions": ("openai.types.completion.Completion", "openai.types.completion.Completion"),
    "/embeddings": ("openai.types.create_embedding_response.CreateEmbeddingResponse", ""),
}
#: The SDK's exceptions for failures without a status.
BROKEN_CLASSES = {
    ErrorType.CONNECT: "APIConnectionError",
    ErrorType.TIMEOUT: "APITimeoutError",
    ErrorType.INVALID_RESPONSE: "APIResponseValidationError",
}

#: llama-stack appends this to its client's base URL, whatever path the base URL ends in.
_PATH_OF_THEIRS = "/v1"
#: The named arguments of the SDK. All other members of a body came through `extra_body`.
_ARGUMENTS = frozenset(
    {
        *("audio", "best_of", "echo", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"),
        *("dimensions", "encoding_format", "input"),
        *("max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n"),
        *("parallel_tool_calls", "prediction", "presence_penalty", "prompt", "prompt_cache_key"),
        *("prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier"),
        *("seed", "service_tier", "stop", "store", "stream", "stream_options", "suffix", "temperature", "tool_choice"),
        *("tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options"),
    }
)
_DATABRICKS = "cloud.databricks.com"


def path_below_base(url: str) -> str:
    """Return the part of a URL's path below the base URL, or the whole path if it is none of `TYPES`."""
    path = urlsplit(url).path
    return next((known for known in TYPES if path.endswith(known)), path)


def shared_name(method: str, url: str, path: str, body: Mapping[str, Any]) -> str:
    """Return the name that llama-stack looks up for a request outside of a test; `path` is the part below the base URL."""
    base = urlsplit(url)._replace(query="")
    asked = urlunsplit(base._replace(path=base.path.removesuffix(path).rstrip("/") + _PATH_OF_THEIRS + path))
    if _DATABRICKS in asked:
        asked = "__databricks__" + asked.rpartition(_DATABRICKS)[2]
    arguments = {name: value for name, value in body.items() if name in _ARGUMENTS}
    if extra := {name: value for name, value in body.items() if name not in _ARGUMENTS}:
        arguments["extra_body"] = extra
    return request_hash(method, asked, arguments, None)


def request_hash(method: str, url: str, body: Mapping[str, Any], test_id: str | None) -> str:
    """Return the name that llama-stack gives the recording of a request."""
    host, path = urlsplit(url)[1:3]
    normalised = _normalised(body)
    if "bedrock" in host:
        normalised.pop("stream_options", None)
    for name in ("extra_body", "extra_query"):
        if isinstance(normalised.get(name), dict):
            normalised[name].pop("project_id", None)
    identity = {"method": method.upper(), "endpoint": path, "body": normalised, "test_id": test_id}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _normalised(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, str):
        return _normalised_text(value)
    if isinstance(value, dict):
        return {key: _normalised(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_normalised(member) for member in value]
    return value


def _normalised_text(text: str) -> str:
    """Replace parts of retrieved text that differ from run to run: scores, attributes, document ids, long decimals."""
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    # A fixed part of each pattern is searched first, because the patterns are slow on megabytes of base64.
    if "score:" in text:
        text = re.sub(r"score:\s*[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?", "score: __NORMALIZED__", text)
    if "attributes:" in text:
        text = re.sub(r",?\s*attributes:\s*\{[^}]*\}", "", text)
    if "document_id:" in text:
        text = re.sub(rf"document_id:\s*{uuid}", "document_id: __NORMALIZED__", text)
    if "<|" in text:
        text = re.sub(rf"<\|{uuid}\|>", "<|__NORMALIZED__|>", text)
    return re.sub(r"-?\d+\.\d{4,}", lambda match: f"{float(match[0]):.5f}", text) if "." in text else text
