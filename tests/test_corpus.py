"""The hostile corpus (`tests/corpus.py`): every kind with its commands, none of them handled badly."""

import corpus
import pytest

REFUSED = [name for name, kind in corpus.KINDS.items() if kind.says is not None]


@pytest.mark.parametrize("place", dict.fromkeys(corpus.KINDS[name].place for name in REFUSED))
def test_what_is_refused_is_refused_well(place):
    """With two commands each, which are others for the next kind."""
    names = [name for name in REFUSED if corpus.KINDS[name].place == place]
    found = [verdict for name in names for verdict in corpus.verdicts(name, everything=False)]
    assert [verdict for verdict in found if verdict.wrong] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus.KINDS)
def test_every_kind_with_every_command(name):
    assert [verdict for verdict in corpus.verdicts(name) if verdict.wrong] == []


def test_the_corpus_is_large():
    kinds = corpus.KINDS.values()
    assert sum(kind.probe for kind in kinds) >= 12
    assert sum(not kind.probe for kind in kinds) >= 10
    commands = {command for kind in kinds for command in corpus.COMMANDS[kind.place]}
    assert commands >= {*corpus.STUDIES, "heatmap", "check", "audit", "pack", "compare", "report", "merge"}
