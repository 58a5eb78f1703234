"""Count a corpus in every layout and format, and report what cannot be counted."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_smoke.audit import count_corpus
from pytest_smoke.errors import CorpusError
from pytest_smoke.mix.corpus import count_rows, source_of


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def lines(rows: int) -> str:
    return '{"text": "x"}\n' * rows


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("nad-00001-of-00042.parquet", "nad"),
        ("nad_0001.jsonl", "nad"),
        ("osm.part-0003.jsonl.gz", "osm"),
        ("wiki2023-shard-7.csv", "wiki2023"),
        ("common_crawl_2023-00001-of-00010.csv", "common_crawl_2023"),
        ("gn.csv", "gn"),
        ("osm/part-0003.jsonl", "osm"),
        ("osm/2024/part-0003.jsonl", "osm"),
        ("source=nad/part.csv", "nad"),
        ("lang=en/source=open%20maps/part.csv", "open maps"),
        ("part-0000.jsonl", "corpus"),
        ("00017.jsonl", "corpus"),
    ],
)
def test_the_path_of_a_file_names_its_source(tmp_path: Path, name: str, source: str) -> None:
    corpus = tmp_path / "corpus"
    assert source_of(corpus / name, corpus) == source


def test_all_formats_in_one_folder_are_counted(tmp_path: Path) -> None:
    corpus = write(
        tmp_path,
        {
            "nad-00000-of-00002.jsonl": lines(3) + "\n" + '{"last": "without a newline"}',
            "nad-00001-of-00002.jsonl.gz": gzip.compress(lines(5).encode()),
            "osm/a.csv": 'text,n\n"two\nlines",1\n"and ""three""\n\n\n",2\n\nx,3\n',
            "osm/b.csv": "text,n\n",
            "README.md": "about",
            ".hidden/c.jsonl": lines(100),
            "_SUCCESS": "",
        },
    )
    found = count_corpus(corpus)
    assert (found.counts, found.unit) == ({"nad": 9, "osm": 3}, "rows")
    assert found.notes == ("files without rows: osm/b.csv", "ignored, not data files: README.md")
    assert count_corpus(corpus, by="shards").counts == {"nad": 2, "osm": 2}


def test_a_field_of_each_row_names_its_source(tmp_path: Path) -> None:
    corpus = write(
        tmp_path,
        {
            "a.jsonl": '{"source": "nad"}\n{"source": "osm"}\n\n{"source": "nad"}\n',
            "b.csv": "text,source\nx,osm\n\ny,gn\n",
        },
    )
    assert count_corpus(corpus, source_field="source").counts == {"gn": 1, "nad": 2, "osm": 2}


ROWS = st.lists(
    st.tuples(st.sampled_from(["nad", "osm", "gn"]), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
)


@given(ROWS)
def test_the_number_of_written_rows_is_counted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    text = io.StringIO()
    csv.writer(text).writerows([("source", "text"), *rows])
    files = {
        "a.csv": text.getvalue().encode(),
        "a.jsonl": "".join(json.dumps({"source": s, "text": t}) + "\n" for s, t in rows).encode(),
    }
    files["b.csv.gz"], files["b.jsonl.gz"] = gzip.compress(files["a.csv"]), gzip.compress(files["a.jsonl"])
    for name in write(folder, dict(files)).iterdir():
        assert count_rows(name, default="it")["it"] == len(rows)
        assert count_rows(name, default="it", source_field="source") == Counter(source for source, _ in rows)


def test_parquet_rows_are_counted_in_total_or_by_column(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"text": ["x"] * 7, "source": ["nad"] * 5 + ["osm"] * 2})
    pq.write_table(table, tmp_path / "mix-00000-of-00001.snappy.parquet")
    assert count_corpus(tmp_path).counts == {"mix": 7}
    assert count_corpus(tmp_path, source_field="source").counts == {"nad": 5, "osm": 2}
    with pytest.raises(CorpusError, match="there is no column 'lang'; columns: text, source"):
        count_corpus(tmp_path, source_field="lang")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorpusError, match=r"broken\.parquet: not a Parquet file"):
        count_corpus(tmp_path)


def test_without_pyarrow_the_error_names_the_extra_and_shards_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    corpus = write(tmp_path, {"nad-0.parquet": b"PAR1", "osm-0.parquet": b"PAR1", "osm-1.parquet": b"PAR1"})
    with pytest.raises(CorpusError, match=r"pip install 'pytest-verdict-smoke\[parquet\]', or count shards"):
        count_corpus(corpus)
    assert count_corpus(corpus, by="shards").counts == {"nad": 1, "osm": 2}


MANIFESTS = {
    "a list": '[{"source": "nad", "rows": 3}, {"source": "osm", "rows": 2}, {"source": "nad", "rows": 4}]',
    "an object": '{"nad": 7, "osm": 2}',
    "objects": '{"nad": {"rows": 7, "path": "x"}, "osm": {"rows": 2}}',
    "under sources": '{"revision": "v3", "sources": [{"source": "osm", "rows": 2}, {"source": "nad", "rows": 7}]}',
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_the_manifest_is_used_unless_rows_are_requested(tmp_path: Path, text: str) -> None:
    corpus = write(tmp_path, {"manifest.json": text, "nad-1.jsonl": lines(1)})
    found = count_corpus(corpus)
    assert (found.counts, found.unit) == ({"nad": 7, "osm": 2}, "rows")
    assert found.notes == (f"the numbers of rows are taken from {corpus / 'manifest.json'}",)
    assert count_corpus(corpus / "manifest.json").counts == found.counts
    assert count_corpus(corpus, by="rows").counts == {"nad": 1}


def test_a_csv_is_a_manifest_only_with_its_columns(tmp_path: Path) -> None:
    corpus = write(
        tmp_path, {"manifest.csv": "path,source,shards\na,nad,3\nb,nad,2\nc,osm,1\n", "x.csv": "text\nhey\n"}
    )
    assert (count_corpus(corpus).counts, count_corpus(corpus).unit) == ({"nad": 5, "osm": 1}, "shards")
    assert count_corpus(corpus / "x.csv").counts == {"x": 1}


REFUSED: list[tuple[dict[str, str | bytes], dict[str, Any], list[str]]] = [
    ({}, {}, ["there are no data files in this folder", ".parquet, .jsonl"]),
    ({"a.md": ""}, {}, ["there are no data files in this folder"]),
    ({"a.jsonl": ""}, {}, ["the corpus has no rows"]),
    ({"a.arrow": "x", "b.jsonl": lines(1)}, {}, ["a.arrow: unknown format", ".csv.gz"]),
    ({"a.jsonl.gz": b"no gzip"}, {}, ["a.jsonl.gz: cannot be read", "Not a gzipped file"]),
    ({"a.jsonl.gz": gzip.compress(lines(50).encode())[:-9]}, {}, ["a.jsonl.gz: cannot be read"]),
    ({"a.csv": 'text\n"open\nquote\n'}, {}, ["a.csv:3: not CSV"]),
    ({"a.csv": b"text\n\xff\n"}, {}, ["a.csv: byte 0xff is not UTF-8"]),
    ({"a.csv": "text\nx\n"}, {"source_field": "source"}, ["a.csv:1: there is no column 'source'", "text"]),
    ({"a.jsonl": '{"source": "a"}\n{"source": 3}\n'}, {"source_field": "source"}, ["a.jsonl:2: ", "'source' is 3"]),
    ({"a.jsonl": '{"text": "a"}\n'}, {"source_field": "source"}, ["a.jsonl:1: ", "is empty"]),
    ({"a.jsonl": "{\n"}, {"source_field": "source"}, ["a.jsonl:1:2: not valid JSON"]),
    ({"a.jsonl": lines(1)}, {"by": "shards", "source_field": "source"}, ["shards do not have a field 'source'"]),
    ({"a.jsonl": lines(1)}, {"by": "manifest"}, ["there is no manifest.json or manifest.csv in this folder"]),
    ({"manifest.json": "[]"}, {}, ["manifest.json: the manifest does not name any source"]),
    ({"manifest.json": "{"}, {}, ["manifest.json:1:2: not valid JSON"]),
    ({"manifest.json": '"nad"'}, {}, ["manifest.json: not a manifest; allowed: a list"]),
    ({"manifest.json": '{"a": 1, "a": 2}'}, {}, ["manifest.json: the key 'a' is given twice"]),
    ({"manifest.json": '{"a": -1}'}, {}, ["source 'a': rows is -1", "0 or more"]),
    ({"manifest.json": '{"a": true}'}, {}, ["source 'a': rows is True"]),
    ({"manifest.json": '[{"rows": 3}]'}, {}, ["entry 1 does not name a source"]),
    (
        {"manifest.json": '[{"source": "a", "lines": 3}]'},
        {},
        ["entry 1 has neither rows nor shards; its keys: source, lines"],
    ),
    ({"manifest.json": '{"a": {"rows": 1}, "b": {"shards": 2}}'}, {}, ["some entries state rows, others shards"]),
    ({"manifest.json": '{"a": 0}'}, {}, ["the corpus has no rows"]),
    ({"manifest.csv": "name,rows\na,1\n"}, {}, ["manifest.csv:1: ", "columns: name, rows"]),
    ({"manifest.csv": "source,rows\na,many\n"}, {}, ["manifest.csv:2: rows is 'many'"]),
    (
        {"manifest.csv": "source,rows\na,1\n", "manifest.json": "{}"},
        {},
        ["the folder has both manifest.json and manifest.csv"],
    ),
]


@pytest.mark.parametrize(("files", "how", "fragments"), REFUSED)
def test_a_corpus_that_cannot_be_counted_is_one_error_line(
    tmp_path: Path, files: dict[str, str | bytes], how: dict[str, Any], fragments: list[str]
) -> None:
    with pytest.raises(CorpusError) as caught:
        count_corpus(write(tmp_path, files), **how)
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_csv_field_is_counted_without_changing_the_global_limit(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    corpus = write(tmp_path, {"a.csv": "text\n" + "x" * 300_000 + "\n"})
    assert count_corpus(corpus).counts == {"a": 1}
    assert csv.field_size_limit() == before


def test_links_are_followed_and_cycles_are_counted_once(tmp_path: Path) -> None:
    real = write(tmp_path / "store", {"part-0.jsonl": lines(4)})
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "nad").symlink_to(real)
    (real / "again").symlink_to(corpus)
    assert count_corpus(corpus).counts == {"nad": 4}


def test_broken_links_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(CorpusError, match=r"a\.jsonl: not a regular file, or a broken link"):
        count_corpus(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    os.mkfifo(tmp_path / "b.jsonl")
    with pytest.raises(CorpusError, match=r"b\.jsonl: not a regular file"):
        count_corpus(tmp_path)


def test_a_duplicate_key_in_a_manifest_is_reported_as_such(tmp_path: Path) -> None:
    corpus = write(tmp_path, {"manifest.json": '{"a": 1, "a": 2}'})
    with pytest.raises(CorpusError) as caught:
        count_corpus(corpus)
    assert str(caught.value) == f"{corpus / 'manifest.json'}: the key 'a' is given twice"
