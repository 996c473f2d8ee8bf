"""What a config's endpoint says about the connection is done, and said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from runner.config.loading import load_config
from runner.endpoint.connect import headers_of, transport_of
from runner.errors import ConfigError
from tests.commands import Project


@pytest.mark.parametrize(
    ("url", "verify", "warned"),
    [
        ("https://h.invalid/v1", False, 1),
        ("https://h.invalid/v1", True, 0),
        ("http://h.invalid/v1", False, 0),
    ],
)
async def test_a_warning_says_when_certificates_are_not_checked(
    tmp_path: Path, url: str, verify: bool, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    project = Project(tmp_path / "p", url, more={"endpoint": {"base_url": url, "verify": verify}})
    config, _ = load_config(project.config, (), {})
    with caplog.at_level(logging.WARNING):
        await transport_of(config, {}).close()
    assert sum("endpoint.verify" in record.message for record in caplog.records) == warned


def test_a_key_is_stripped(tmp_path: Path) -> None:
    config, _ = load_config(Project(tmp_path / "p", "http://h.invalid/v1").config, (), {})
    environment = {"OPENAI_API_KEY": " sk-0123456789\r\n"}
    assert headers_of(config, environment)["Authorization"] == "Bearer sk-0123456789"


@pytest.mark.parametrize("key", ["sk-ключ-0123456789", "sk-0123456789\nX-Other: 1", "sk 0123456789", "sk-\x7f0123456789"])
def test_a_key_that_no_header_may_hold_is_refused_and_not_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        load_config(Project(tmp_path / "p", "http://h.invalid/v1").config, (), {"OPENAI_API_KEY": key})
    assert "0123456789" not in str(caught.value)
