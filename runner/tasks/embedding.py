"""The task type `embedding`: /v1/embeddings, the vector of a text.

Later tasks read it as a list of numbers. The metric `cosine_similarity` compares the vectors of two such tasks.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from runner.tasks.fields import Locatable, VerbatimModel
from runner.tasks.request import AskingConfig, Model

__all__ = ["EmbeddingConfig", "EmbeddingConfiguration"]


class EmbeddingConfiguration(VerbatimModel):
    """The request parameters by their wire names. They are sent exactly as given, and no other is sent."""

    model: Model
    input: Locatable[Annotated[str | list[Any], Field(min_length=1)]]
    """A text, or a list of texts, which later tasks read as a list of vectors."""
    dimensions: Locatable[Annotated[int, Field(ge=1)]] | None = None
    encoding_format: Locatable[Literal["float", "base64"]] | None = None
    """How the server writes the numbers; base64 is shorter on the wire. They are kept as JSON either way."""
    user: Locatable[str] | None = None
    extra_body: dict[str, Any] | None = None
    """Parameters of a server beyond the names above; they are merged into the body."""


class EmbeddingConfig(AskingConfig):
    """Have a model turn a text into a vector once for each sample."""

    path: ClassVar[str] = "/embeddings"
    task_type: Literal["embedding"]
    configuration: EmbeddingConfiguration
