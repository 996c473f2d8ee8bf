"""The reasoning in the text of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.reading.reasoning import split_reasoning, without_reasoning


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("<think>maybe Rome</think>\nParis", "Paris", "maybe Rome"),
        ("maybe Rome</think>\n\nParis", "Paris", "maybe Rome"),
        ("<think>maybe Rome", None, "maybe Rome"),
        ("Paris, or <think>Rome", None, "Rome"),
        ("<think></think>4", "4", ""),
        ("<think>a</think>x<think>b</think>y", "xy", "ab"),
        ("<THINK>a</THINK> b", "b", "a"),
        ("<thinking>a</thinking>b", "b", "a"),
        ("<reasoning>a</reasoning>b", "b", "a"),
        ("[THINK]a[/THINK]b", "b", "a"),
        ("◁think▷a◁/think▷b", "b", "a"),
        ("<|START_THINKING|>a<|END_THINKING|>b", "b", "a"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
            "b",
            "a<|end|><|start|>assistant",
        ),
        ("<think>use </think> tags</think>4", "4", "use  tags"),
        ("<think>a <think> b</think>c", "c", "a <think> b"),
        ("<think>a <reasoning> b</think>c", "c", "a <reasoning> b"),
        ("<think>the answer</think>", "", "the answer"),
        ("Use the <think> tag", None, "tag"),
        ("no marks at all ", "no marks at all ", None),
        ("x < y and [thinking] aloud", "x < y and [thinking] aloud", None),
        ("", "", None),
    ],
)
def test_reasoning_is_no_part_of_the_answer(text: str, answer: str | None, reasoning: str | None) -> None:
    assert split_reasoning(text) == (answer, reasoning)


_PLAIN = st.text("ab <[/]|", max_size=8).filter(lambda text: split_reasoning(text)[1] is None)


@given(
    st.sampled_from([("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|begin_of_thought|>", "<|end_of_thought|>")]),
    st.lists(st.tuples(_PLAIN, _PLAIN), min_size=1, max_size=3),
    _PLAIN,
)
def test_what_stands_between_marks_is_the_reasoning(marks: tuple[str, str], pieces: list[tuple[str, str]], last: str) -> None:
    opening, closing = marks
    text = "".join(f"{answer}{opening}{reasoning}{closing}" for answer, reasoning in pieces) + last
    assert split_reasoning(text) == (
        "".join([*(answer for answer, _ in pieces), last]).strip(),
        "".join(reasoning for _, reasoning in pieces).strip(),
    )
    assert without_reasoning(text + opening) is None
