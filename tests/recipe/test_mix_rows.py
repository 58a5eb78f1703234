"""The corpus of a mix lies beside the recipe that names it, and takes the place of stated rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_smoke.recipe.load import load_recipe

HEAD = "task: a_task:Task\nfull: {batch_size: 1, learning_rate: 1, max_steps: 10}\nsmoke: {max_steps: 5}\n"


def test_a_corpus_is_found_from_the_recipe_that_names_it(root: Path) -> None:
    """Also by a recipe elsewhere that extends it, and by its cells."""
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


def test_without_a_corpus_rows_are_required(faults: Callable[..., list[str]]) -> None:
    """Of every source, at its place; a corpus must be a path."""
    text = HEAD + "mix:\n  sources:\n    nad: {weight: 1}\n    osm: {rows: 3}\n    gn: {}\n"
    assert [fault.partition(": ")[::2] for fault in faults(text)] == [
        (
            "6:10",
            "key mix.sources.nad.rows is missing: Rows the source has; left out where the mix names its `corpus`, "
            "whose rows are counted",
        ),
        (
            "8:9",
            "key mix.sources.gn.rows is missing: Rows the source has; left out where the mix names its `corpus`, "
            "whose rows are counted",
        ),
    ]
    assert faults(text.replace("mix:\n", "mix:\n  corpus: data\n")) == []
    assert "corpus is 3; it must be text" in faults(text.replace("mix:\n", "mix:\n  corpus: 3\n"))[0]
