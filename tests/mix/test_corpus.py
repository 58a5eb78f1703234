"""Counting a corpus: every layout and format gives what was written, and what cannot be counted is said."""

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

from pytest_smoke.audit import count
from pytest_smoke.errors import CorpusError
from pytest_smoke.mix.corpus import source_of
from pytest_smoke.mix.rows import rows_of


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
def test_a_file_belongs_to_the_source_that_its_path_names(tmp_path: Path, name: str, source: str) -> None:
    """Hive's folder first, then any folder, then the name up to the shard's number."""
    corpus = tmp_path / "corpus"
    assert source_of(corpus / name, corpus) == source


def test_every_format_in_one_folder(tmp_path: Path) -> None:
    """Blank lines and headers are no rows; a field may hold newlines; what is beside the data is told."""
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
    found = count(corpus)
    assert (found.counts, found.unit) == ({"nad": 9, "osm": 3}, "rows")
    assert found.notes == ("without a row: osm/b.csv", "left out, as no data: README.md")
    assert count(corpus, by="shards").counts == {"nad": 2, "osm": 2}


def test_a_rows_own_field_names_its_source(tmp_path: Path) -> None:
    """In both text formats, over all files."""
    corpus = write(
        tmp_path,
        {
            "a.jsonl": '{"source": "nad"}\n{"source": "osm"}\n\n{"source": "nad"}\n',
            "b.csv": "text,source\nx,osm\n\ny,gn\n",
        },
    )
    assert count(corpus, source_field="source").counts == {"gn": 1, "nad": 2, "osm": 2}


ROWS = st.lists(
    st.tuples(st.sampled_from(["nad", "osm", "gn"]), st.text(st.characters(codec="utf-8", exclude_characters="\0")))
)


@given(ROWS)
def test_what_was_written_is_counted(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    """Whatever the rows hold: newlines, quotes, separators."""
    folder = tmp_path_factory.mktemp("rows")
    text = io.StringIO()
    csv.writer(text).writerows([("source", "text"), *rows])
    files = {
        "a.csv": text.getvalue().encode(),
        "a.jsonl": "".join(json.dumps({"source": s, "text": t}) + "\n" for s, t in rows).encode(),
    }
    files["b.csv.gz"], files["b.jsonl.gz"] = gzip.compress(files["a.csv"]), gzip.compress(files["a.jsonl"])
    for name in write(folder, dict(files)).iterdir():
        assert rows_of(name, default="it")["it"] == len(rows)
        assert rows_of(name, default="it", source_field="source") == Counter(source for source, _ in rows)


def test_parquet_rows_are_read_from_the_metadata(tmp_path: Path) -> None:
    """And a column of sources, where it is asked for."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"text": ["x"] * 7, "source": ["nad"] * 5 + ["osm"] * 2})
    pq.write_table(table, tmp_path / "mix-00000-of-00001.snappy.parquet")
    assert count(tmp_path).counts == {"mix": 7}
    assert count(tmp_path, source_field="source").counts == {"nad": 5, "osm": 2}
    with pytest.raises(CorpusError, match="there is no column 'lang'; the columns are text, source"):
        count(tmp_path, source_field="lang")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorpusError, match=r"broken\.parquet: not a Parquet file"):
        count(tmp_path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the way that needs none."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    corpus = write(tmp_path, {"nad-0.parquet": b"PAR1", "osm-0.parquet": b"PAR1", "osm-1.parquet": b"PAR1"})
    with pytest.raises(CorpusError, match=r"pip install 'pytest-verdict-smoke\[parquet\]', or count shards"):
        count(corpus)
    assert count(corpus, by="shards").counts == {"nad": 1, "osm": 2}


MANIFESTS = {
    "a list": '[{"source": "nad", "rows": 3}, {"source": "osm", "rows": 2}, {"source": "nad", "rows": 4}]',
    "an object": '{"nad": 7, "osm": 2}',
    "objects": '{"nad": {"rows": 7, "path": "x"}, "osm": {"rows": 2}}',
    "under sources": '{"revision": "v3", "sources": [{"source": "osm", "rows": 2}, {"source": "nad", "rows": 7}]}',
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_is_believed_and_named(tmp_path: Path, text: str) -> None:
    """Unless rows are asked for."""
    corpus = write(tmp_path, {"manifest.json": text, "nad-1.jsonl": lines(1)})
    found = count(corpus)
    assert (found.counts, found.unit) == ({"nad": 7, "osm": 2}, "rows")
    assert found.notes == (f"rows are those that {corpus / 'manifest.json'} states",)
    assert count(corpus / "manifest.json").counts == found.counts
    assert count(corpus, by="rows").counts == {"nad": 1}


def test_a_manifest_in_csv_of_shards(tmp_path: Path) -> None:
    """A data file that has no such columns is none."""
    corpus = write(
        tmp_path, {"manifest.csv": "path,source,shards\na,nad,3\nb,nad,2\nc,osm,1\n", "x.csv": "text\nhey\n"}
    )
    assert (count(corpus).counts, count(corpus).unit) == ({"nad": 5, "osm": 1}, "shards")
    assert count(corpus / "x.csv").counts == {"x": 1}


REFUSED: list[tuple[dict[str, str | bytes], dict[str, Any], list[str]]] = [
    ({}, {}, ["there is no data file here", ".parquet, .jsonl"]),
    ({"a.md": ""}, {}, ["there is no data file here"]),
    ({"a.jsonl": ""}, {}, ["not one of the rows"]),
    ({"a.arrow": "x", "b.jsonl": lines(1)}, {}, ["a.arrow: unknown format", ".csv.gz"]),
    ({"a.jsonl.gz": b"no gzip"}, {}, ["a.jsonl.gz: the file cannot be read", "Not a gzipped file"]),
    ({"a.jsonl.gz": gzip.compress(lines(50).encode())[:-9]}, {}, ["a.jsonl.gz: the file cannot be read"]),
    ({"a.csv": 'text\n"open\nquote\n'}, {}, ["a.csv:3: not CSV"]),
    ({"a.csv": b"text\n\xff\n"}, {}, ["a.csv: byte 0xff is not UTF-8"]),
    ({"a.csv": "text\nx\n"}, {"source_field": "source"}, ["a.csv:1: there is no column 'source'", "text"]),
    ({"a.jsonl": '{"source": "a"}\n{"source": 3}\n'}, {"source_field": "source"}, ["a.jsonl:2: ", "'source' holds 3"]),
    ({"a.jsonl": '{"text": "a"}\n'}, {"source_field": "source"}, ["a.jsonl:1: ", "holds nothing"]),
    ({"a.jsonl": "{\n"}, {"source_field": "source"}, ["a.jsonl:1: the line is not JSON"]),
    ({"a.jsonl": lines(1)}, {"by": "shards", "source_field": "source"}, ["shards have no field 'source'"]),
    ({"a.jsonl": lines(1)}, {"by": "manifest"}, ["there is no manifest.json or manifest.csv here"]),
    ({"manifest.json": "[]"}, {}, ["manifest.json: the manifest names no source"]),
    ({"manifest.json": "{"}, {}, ["manifest.json: not JSON"]),
    ({"manifest.json": '"nad"'}, {}, ["manifest.json: not a manifest; it is a list"]),
    ({"manifest.json": '{"a": 1, "a": 2}'}, {}, ["manifest.json: the key 'a' is given twice"]),
    ({"manifest.json": '{"a": -1}'}, {}, ["source 'a': rows is -1", "0 or more"]),
    ({"manifest.json": '{"a": true}'}, {}, ["source 'a': rows is True"]),
    ({"manifest.json": '[{"rows": 3}]'}, {}, ["entry 1 names no source"]),
    (
        {"manifest.json": '[{"source": "a", "lines": 3}]'},
        {},
        ["entry 1 has neither rows nor shards, but source, lines"],
    ),
    ({"manifest.json": '{"a": {"rows": 1}, "b": {"shards": 2}}'}, {}, ["some entries give rows and some shards"]),
    ({"manifest.json": '{"a": 0}'}, {}, ["not one of the rows"]),
    ({"manifest.csv": "name,rows\na,1\n"}, {}, ["manifest.csv:1: ", "found name, rows"]),
    ({"manifest.csv": "source,rows\na,many\n"}, {}, ["manifest.csv:2: rows is 'many'"]),
    ({"manifest.csv": "source,rows\na,1\n", "manifest.json": "{}"}, {}, ["both manifest.json and manifest.csv"]),
]


@pytest.mark.parametrize(("files", "how", "fragments"), REFUSED)
def test_what_cannot_be_counted_is_one_clear_error(
    tmp_path: Path, files: dict[str, str | bytes], how: dict[str, Any], fragments: list[str]
) -> None:
    """With the file, the line if there is one, the offending value, and what is allowed."""
    with pytest.raises(CorpusError) as caught:
        count(write(tmp_path, files), **how)
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_field_is_counted_and_the_limit_of_others_is_left_alone(tmp_path: Path) -> None:
    """The csv module's limit of 128 KiB is process-wide."""
    before = csv.field_size_limit()
    corpus = write(tmp_path, {"a.csv": "text\n" + "x" * 300_000 + "\n"})
    assert count(corpus).counts == {"a": 1}
    assert csv.field_size_limit() == before


def test_links_are_followed_once(tmp_path: Path) -> None:
    """A corpus is often a folder of links; one that leads back ends nowhere."""
    real = write(tmp_path / "store", {"part-0.jsonl": lines(4)})
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "nad").symlink_to(real)
    (real / "again").symlink_to(corpus)
    assert count(corpus).counts == {"nad": 4}


def test_a_broken_link_and_a_pipe_are_refused(tmp_path: Path) -> None:
    """Neither is skipped, and nothing waits."""
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(CorpusError, match=r"a\.jsonl: this is not a regular file, or its link leads nowhere"):
        count(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    os.mkfifo(tmp_path / "b.jsonl")
    with pytest.raises(CorpusError, match=r"b\.jsonl: this is not a regular file"):
        count(tmp_path)
