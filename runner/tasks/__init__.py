"""The task types: what a task is, and the list of those there are.

A task type is one file with two classes: its part of the config (`TaskConfig`) and the task itself (`Task`).
"""

from __future__ import annotations

from runner.tasks.chat_completion import ChatCompletionConfig
from runner.tasks.completion import CompletionConfig
from runner.tasks.metric import MetricConfig

__all__ = ["TASK_CONFIGS"]

#: Every task type's part of the config.
TASK_CONFIGS = (ChatCompletionConfig, CompletionConfig, MetricConfig)
