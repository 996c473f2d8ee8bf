"""What stands in the last box of a text."""

from __future__ import annotations

import pytest

from runner.reading.boxes import boxed


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answer is \boxed{42}.", "42"),
        (r"\boxed{\frac{a}{b}}", r"\frac{a}{b}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed 5", "5"),
        (r"\boxed5", "5"),
        (r"\boxed\pi", r"\pi"),
        (r"\fbox{7}", "7"),
        (r"\boxed {  8 }", "8"),
        (r"\boxed{\text{Paris}}", "Paris"),
        (r"\boxed{\mathrm{ B }}", "B"),
        (r"\boxed{\textbf{\text{Oslo}}}", "Oslo"),
        (r"\boxed{\text{a \textbf{b}}}", r"a \textbf{b}"),
        (r"\boxed{\text{a} + \text{b}}", r"\text{a} + \text{b}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{}", ""),
        (r"\boxed{x", None),
        (r"\boxed{1} and \boxed{x", None),
        (r"\boxed", None),
        (r"\boxedness{3}", None),
        ("no box", None),
    ],
)
def test_the_last_box_is_the_answer(text: str, answer: str | None) -> None:
    assert boxed(text) == answer


def test_a_long_text_takes_no_longer_by_letter_than_a_short_one() -> None:
    assert boxed(r"\boxed{" * 100_000) is None
    assert boxed(r"\boxed{" + "{" * 500_000 + "}" * 500_000 + "}") is not None
