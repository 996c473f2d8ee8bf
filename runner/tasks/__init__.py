"""The task types: what a task is, and the list of those there are.

A task type is one file with two classes: its part of the config (`TaskConfig`) and the task itself (`Task`).
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, get_args

from pydantic import Field

from runner.tasks.base import TaskConfig
from runner.tasks.chat_completion import ChatCompletionConfig
from runner.tasks.completion import CompletionConfig
from runner.tasks.embedding import EmbeddingConfig
from runner.tasks.guided_decoding import GuidedDecodingConfig
from runner.tasks.metric import MetricConfig
from runner.tasks.pairwise import PairwiseConfig

__all__ = ["TASK_CONFIGS", "AnyTask"]

#: A task in the config, whichever type it has.
AnyTask: TypeAlias = Annotated[
    ChatCompletionConfig | CompletionConfig | EmbeddingConfig | GuidedDecodingConfig | MetricConfig | PairwiseConfig,
    Field(discriminator="task_type"),
]
#: Every task type's part of the config.
TASK_CONFIGS: tuple[type[TaskConfig], ...] = get_args(get_args(AnyTask)[0])
