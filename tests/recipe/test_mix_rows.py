"""The corpus and the rows of a data mix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_smoke.recipe.load import load_recipe

HEAD = "task: a_task:Task\nfull: {batch_size: 1, learning_rate: 1, max_steps: 10}\nsmoke: {max_steps: 5}\n"


def test_a_corpus_is_relative_to_the_recipe_that_names_it(root: Path) -> None:
    """Also for a recipe in another folder that extends it."""
    (root / "base").mkdir()
    mix = "mix: {corpus: ../data/v3, sources: {nad: {weight: 0.5}, osm: {}}}\n"
    (root / "base" / "b.smoke.yaml").write_text(HEAD + mix)
    (root / "r.smoke.yaml").write_text("extends: base/b.smoke.yaml\nmix: {sources: {osm: {weight: 2.0}}}\n")
    for name in ("base/b.smoke.yaml", "r.smoke.yaml"):
        found = load_recipe(root / name, root=root).mix
        assert found is not None
        assert found.corpus == str(root / "data" / "v3")
        assert found.sources["nad"].rows is None
    (root / "r.smoke.yaml").write_text("extends: base/b.smoke.yaml\nmix: {corpus: here}\n")
    found = load_recipe(root / "r.smoke.yaml", root=root).mix
    assert found is not None
    assert found.corpus == str(root / "here")


def test_without_a_corpus_every_source_needs_rows(faults: Callable[..., list[str]]) -> None:
    text = HEAD + "mix:\n  sources:\n    nad: {weight: 1}\n    osm: {rows: 3}\n    gn: {}\n"
    assert [fault.partition(": ")[::2] for fault in faults(text)] == [
        (
            "6:10",
            "key mix.sources.nad.rows is missing; write the number of rows, or name a corpus in mix.corpus",
        ),
        (
            "8:9",
            "key mix.sources.gn.rows is missing; write the number of rows, or name a corpus in mix.corpus",
        ),
    ]
    assert faults(text.replace("mix:\n", "mix:\n  corpus: data\n")) == []
    assert "corpus is 3; it must be text" in faults(text.replace("mix:\n", "mix:\n  corpus: 3\n"))[0]
