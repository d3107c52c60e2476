"""The how-to pages run as they are written."""

import re
import warnings
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [page for page in sorted(DOCS.glob("*.md")) if "```python" in page.read_text()]


@pytest.mark.extended
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, capsys):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):  # as at a reader's
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)
    assert capsys.readouterr().out


def test_there_is_a_page_with_code():
    assert [page.name for page in PAGES] == ["own-network.md", "studies.md"]
