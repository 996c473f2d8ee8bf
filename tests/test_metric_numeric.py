"""`numeric` says whether the number that an answer means is the reference's, within the tolerance."""

from __future__ import annotations

from typing import Any

import pytest

from runner.types import Value
from tests.test_metric import judged, refused, verdict

BIG = 12345678901234567890


@pytest.mark.parametrize(
    ("candidate", "reference", "settings", "right"),
    [
        ("It is 42.", 42, {}, True),
        ("It is 42.0", "42", {}, True),
        ("41", 42, {}, False),
        ("41", 42, {"tolerance": 1}, True),
        ("40.9", 42, {"tolerance": 1}, False),
        ("104", 100, {"relative_tolerance": 0.05}, True),
        ("106", 100, {"relative_tolerance": 0.05}, False),
        ("-104", -100, {"relative_tolerance": 0.05}, True),
        ("0.30000000000000004", 0.3, {}, True),
        ("0.300000001", 0.3, {}, False),
        ("12%", "12 %", {}, True),
        ("1,234", 1234, {}, True),
        ("7", ["6", "7"], {}, True),
        ("8", ["6", "7"], {}, False),
        ("none", 42, {}, False),
        ("", 42, {}, False),
        (None, 42, {}, False),
        (42, 42, {}, True),
        (0, 0, {}, True),
        # both sides are read by one reader
        ("1/4", "3/4", {}, False),
        (r"\frac{1}{4}", r"\frac{3}{4}", {}, False),
        ("3", "1/3", {}, False),
        ("0.333333333333", "1/3", {}, True),
        ("75 %", "3/4", {"percent": "share"}, True),
        ("5", "-$5", {}, False),
        ("−5 €", "-$5", {}, True),
        ("It takes 3 steps.\n#### 72", "48/2 = <<48/2=24>>24\n#### 72", {}, True),
        ("100000", "1,00,000", {}, True),
        ("20%", 0.2, {}, False),
        ("20%", 0.2, {"percent": "share"}, True),
        ("0.2", "20%", {"percent": "share"}, True),
        ("20", "20%", {"percent": "share"}, False),
        # whole numbers lose no digits
        (str(BIG), BIG, {}, True),
        (str(BIG + 1), BIG, {}, False),
        (f"{BIG:,}", str(BIG), {}, True),
        (str(BIG + 1), BIG, {"tolerance": 1}, True),
        (str(BIG + 1), BIG, {"relative_tolerance": 1e-8}, True),
        (f"{BIG}.0", BIG, {}, True),
        ("9" * 307, -(10**307), {}, False),
        # another number than the one that is meant
        ("The answer is 42 (as 2 notes say)", 42, {}, True),
        ("The answer is 42 (as 2 notes say)", 2, {"which": "last"}, True),
        ("The 2 notes say 42", 2, {"which": "first"}, True),
    ],
)  # fmt: skip
async def test_numeric(candidate: object, reference: object, settings: dict[str, Any], right: bool) -> None:
    assert await verdict("numeric", candidate, reference, **settings) is right


@pytest.mark.parametrize(
    ("candidate", "settings", "output"),
    [
        ("1,234.50", {}, "1234.5"),
        ("no number", {}, None),
        ("it is 3 or 4", {}, "4"),
        ("3/4", {}, "0.75"),
        ("1/3", {}, "0.333333333333333"),
        (str(BIG), {}, str(BIG)),
        ("1.5 × 10^3", {}, "1500"),
        ("1.5e300", {}, "1.5e+300"),
        ("20%", {"percent": "share"}, "0.2"),
        ("-0", {}, "0"),
        ("1.234.567", {}, None),
    ],
)
async def test_numeric_keeps_the_number_it_took(candidate: str, settings: dict[str, Any], output: str | None) -> None:
    found = await judged({"candidate": candidate, "reference": 4}, type="numeric", **settings)
    assert isinstance(found, Value)
    assert found.output == output


@pytest.mark.parametrize(
    "reference",
    ["many", "1.234.567", "3/0", True, {"n": "x"}, float("inf"), float("nan"), 10**400, "9" * 400, [1, "many"]],
)
async def test_a_reference_without_a_number_is_an_error_of_the_row(reference: object) -> None:
    message = await refused({"candidate": "1", "reference": reference}, type="numeric")
    assert message.startswith("configuration.reference: ")
    assert message.endswith(" is not a number")
