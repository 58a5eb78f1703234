"""Run `preflight` on configs and recipes, and check its output and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_smoke.__main__ import main
from tests.recipe.configs import samples

WORLD = ("--full", "world_size=8", "--smoke", "world_size=8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a full run's config, a fair smoke run's, and one that is not."""
    smoke = samples.AXOLOTL.replace("50000", "2500").replace("cosine", "constant_with_warmup")
    (tmp_path / "full.yml").write_text(samples.AXOLOTL)
    (tmp_path / "smoke.yml").write_text(smoke)
    (tmp_path / "bad.yml").write_text(smoke.replace("3e-4", "3e-3").replace("_size: 16", "_size: 2"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_exit_status_is_a_gate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preflight", "full.yml", "smoke.yml", *WORLD]) == 0
    assert capsys.readouterr().out.startswith("fair: smoke.yml (axolotl) as a smoke run of full.yml (axolotl)")
    assert main(["preflight", "full.yml", "bad.yml", *WORLD]) == 1
    assert capsys.readouterr().out.startswith(
        "not fair: bad.yml (axolotl) as a smoke run of full.yml (axolotl), 2 sett"
    )
    assert main(["preflight", "full.yml", "smoke.yml"]) == 2
    assert capsys.readouterr().out.startswith(
        "could not tell: smoke.yml (axolotl) as a smoke run of full.yml (axolotl)"
    )


def test_the_text_fits_80_columns_and_says_each_value_with_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["preflight", "full.yml", "bad.yml"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "  learning_rate is 0.003 in the smoke run and 0.0003 in the full run\n" in text
    assert "    full run: full.yml:19 (learning_rate)\n    smoke run: bad.yml:19 (learning_rate)\n" in text
    assert "hint: state what a file does not have" in text
    assert text.index("not as required:") < text.index("could not be compared:") < text.index("may differ:")


def test_json_has_the_verdict_both_runs_and_every_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preflight", "full.yml", "bad.yml", *WORLD, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["verdict"]) == (1, "not-fair")
    assert (found["full"]["effective_batch"], found["smoke"]["effective_batch"]) == (1024, 128)
    assert found["full"]["settings"]["grad_clip_norm"] == {
        "value": 1.0, "place": "full.yml:20 (max_grad_norm)", "note": ""
    }  # fmt: skip
    assert [one["setting"] for one in found["differences"] if one["status"] == "unfair"] == [
        "effective_batch",
        "learning_rate",
    ]
    assert found["differences"][1]["smoke_place"] == "bad.yml:19 (learning_rate)"


def test_a_recipe_stands_for_its_full_run_or_its_smoke_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a_task.py").write_text("class Task: ...\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    recipe = "task: a_task:Task\nfull: {from: full.yml, world_size: 8}\nsmoke: {from: smoke.yml}\n"
    (folder / "r.smoke.yaml").write_text(recipe)
    (folder / "recipe.yaml").write_text(recipe)
    for full, smoke, *more in (
        ("r.smoke.yaml", "r.smoke.yaml"),
        ("r.smoke.yaml", "recipe.yaml"),
        ("full.yml", "r.smoke.yaml", "--full", "world_size=8"),
        ("r.smoke.yaml", "smoke.yml", "--smoke", "world_size=8"),
    ):
        assert main(["preflight", full, smoke, *more]) == 0, capsys.readouterr().out
    assert main(["preflight", "r.smoke.yaml", "bad.yml", "--smoke", "world_size=8"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.yml", "smoke.yml"), "there is no file none.yml"),
        (
            ("full.yml", "smoke.yml", "--full", "world_size"),
            "--full world_size is not SETTING=VALUE, such as world_size=8",
        ),
        (
            ("full.yml", "smoke.yml", "--full", "max_grad_norm=1"),
            "no setting max_grad_norm; max_grad_norm is grad_clip_norm",
        ),
        (("full.yml", "smoke.yml", "--full", "batch_size=x"), "batch_size is x, which is not a number"),
        (("full.yml", "smoke.yml", "--full", "seed=1"), "full.yml:26 (seed) states 42; remove one of them"),
        (("full.yml", "smoke.yml", "--smoke-preset", "axlotl"), "there is no preset axlotl; did you mean axolotl?"),
        (("empty.yml", "smoke.yml"), "empty.yml:1:1: the file is empty"),
        (("color.yml", "smoke.yml"), "color.yml has no key of a known setting"),
        (("bad.smoke.yaml", "smoke.yml"), "bad.smoke.yaml:1:1: "),
        (("both.yml", "smoke.yml"), "name its trainer: --full-preset llama-factory or axolotl"),
    ],
)
def test_what_cannot_be_read_ends_with_status_2_and_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    (folder / "empty.yml").write_text("")
    (folder / "color.yml").write_text("color: red\n")
    (folder / "bad.smoke.yaml").write_text("full: {}\n")
    (folder / "both.yml").write_text(samples.AXOLOTL + "per_device_train_batch_size: 1\ncutoff_len: 1\ntemplate: x\n")
    assert main(["preflight", *arguments]) == 2
    output = capsys.readouterr()
    assert not output.out
    assert output.err.startswith("preflight: ")
    assert message in output.err
