"""Fixtures of the tests of media."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus import make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file of the corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    return folder
