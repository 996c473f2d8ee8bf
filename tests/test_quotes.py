"""No row is lost to a quote in a file of cells: it holds cells together or is text, and where that is not clear, it is said."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.datasets import open_dataset, records
from runner.datasets.formats import read_rows
from runner.datasets.options import ReadingOptions
from runner.datasets.rows import BadRow
from runner.errors import DatasetError, DatasetReadError

#: Rows before the place that cannot be read, and what is said of it; or all rows, those that are bad as a part of what is said.
Outcome = tuple[list[Any], str | None]
WHICH = "set dataset.quoting: true if quotes enclose cells, false if they are text"
NONE = "close it, or set dataset.quoting: false if quotes are text"


def read(folder: Path, name: str, content: str, **options: Any) -> Outcome:
    """Return rows as lists of cells, of bad ones why, and what ended the reading."""
    path = folder / name
    path.write_text(content, newline="")
    found: list[Any] = []
    try:
        for number, row in read_rows(path, ReadingOptions(**options)):
            found.append(
                list(row.values()) if isinstance(row, dict) else f"{number}: {row.reason if isinstance(row, BadRow) else row}"
            )
    except DatasetError as error:
        return found, str(error).replace(f"{folder}/", "")
    return found, None


def numbered(count: int, delimiter: str, **odd: str) -> str:
    """Return a header and rows of a number and a word; `odd` has other words by their row, as `row_3`."""
    return f"id{delimiter}a\n" + "".join(f"{n}{delimiter}{odd.get(f'row_{n}', f'word{n}')}\n" for n in range(1, count + 1))


def test_a_stray_quote_is_text_in_a_file_of_tabs(tmp_path: Path) -> None:
    rows, ended = read(tmp_path, "rows.tsv", numbered(1000, "\t", row_41='"Hello, he said'))
    assert (len(rows), rows[40], ended) == (1000, ["41", '"Hello, he said'], None)


def test_a_quote_that_is_never_closed_ends_the_reading(tmp_path: Path) -> None:
    rows, ended = read(tmp_path, "rows.csv", numbered(1000, ",", row_41='"Hello he said'))
    assert len(rows) == 40
    assert ended == f"rows.csv:42: the quote that opens here is never closed, and 959 lines follow; {NONE}"
    assert read(tmp_path, "rows.csv", numbered(1000, ",", row_41='"Hello he said'), quoting=False)[0][40] == [
        "41",
        '"Hello he said',
    ]


CSV: list[tuple[str, list[Any], str | None]] = [
    # cells of several lines
    ('1,"a\nb, ""c"""\n2,d\n', [["1", 'a\nb, "c"'], ["2", "d"]], None),
    ('1,"Dear Ann,\n\nhow, today?\n1, 2 and 3\n"\n2,d\n', [["1", "Dear Ann,\n\nhow, today?\n1, 2 and 3\n"], ["2", "d"]], None),
    ('"a\nb, c",1\n"d",2\n', [["a\nb, c", "1"], ["d", "2"]], None),
    ('7,"def f(x):\n    return g(x,1)\nf(2,3)"\n8,x\n', [["7", "def f(x):\n    return g(x,1)\nf(2,3)"], ["8", "x"]], None),
    ('7,"x\r\ny"\r\n8,"{\n ""a"": 1,\n ""b"": [2,3]\n}"\r\n', [["7", "x\r\ny"], ["8", '{\n "a": 1,\n "b": [2,3]\n}']], None),
    ('Ann,"a, b"\nBob,"x=f(1,2)\ng(3,4)"\n', [["Ann", "a, b"], ["Bob", "x=f(1,2)\ng(3,4)"]], None),
    # rows that a quote has taken with it
    ('1,"Hello, he said\n2,world\n3,the end"\n4,bar\n', [], "2: the quoted cell that opens here ends in line 4, and may"),
    ('1,a\n2,"Hello\n3\n4,the end"\n5,bar\n', [["1", "a"]], "3: the quoted cell that opens here ends in line 5"),
    ('q1,x\nq2,"Hello\nq3,the end"\n', [["q1", "x"]], "3: the quoted cell that opens here"),
    ('1,"a, b"\n2,"Hello he said\n3,world\n4,the end"\n', [["1", "a, b"]], "3: the quoted cell that opens here"),
    ('"1,Hello\n2,world\n3",x\n', [], "2: the quoted cell that opens here"),
    ('1,"a, b"\n"2,Hello\n3,world\n4",x\n', [["1", "a, b"]], "3: the quoted cell that opens here"),
    ('yes,"Hello\nno,world\nyes,the end"\n', [], "2: the quoted cell that opens here"),
    ('1,"x\ny",z\n2,a\n', [], "2: the quoted cell that opens here"),
    # quotes after which nobody can tell where a cell ends
    ('1,"Hello\n2,"word"\n3,x\n', [], "2: it is not clear where the quoted cell that opens here ends"),
    ('1,"a, b"\n2,"c" d" e\nf\n', [["1", "a, b"]], "3: it is not clear where the quoted cell that opens here ends"),
    ('1,"a, b"\n2,"c\nd"\ne, f"\n', [["1", "a, b"], ["2", "c\nd"]], "5: a quote is inside a cell that is not in quotes"),
    # quotes that cost one row, or none
    ('1,"Hello" he said\n2,x\n', ["2: not CSV: ',' expected after '\"'; " + NONE, ["2", "x"]], None),
    ('1,He said "hi"\n2,5" wide\n', [["1", 'He said "hi"'], ["2", '5" wide']], None),
    ('1,"a, b"\n2,He said "hi"\n', [["1", "a, b"], ["2", 'He said "hi"']], None),
]  # fmt: skip


@pytest.mark.parametrize(("content", "rows", "ended"), CSV, ids=[content[:30] for content, _, _ in CSV])
def test_csv(tmp_path: Path, content: str, rows: list[Any], ended: str | None) -> None:
    found, why = read(tmp_path, "rows.csv", f"id,a\n{content}")
    assert found == rows
    assert (why or "").startswith(f"rows.csv:{ended}" if ended else "")
    assert (why is None) == (ended is None)
    for delimiter in ";|":  # what is true of commas is true of all
        translated = content.replace(",", delimiter)
        others = [row if isinstance(row, str) else [cell.replace(",", delimiter) for cell in row] for row in rows]
        found, why = read(tmp_path, "rows.csv", f"id{delimiter}a\n{translated}", delimiter=delimiter)
        assert [row if isinstance(row, list) else row[:1] for row in found] == [
            row if isinstance(row, list) else row[:1] for row in others
        ]
        assert (why is None) == (ended is None)


def test_the_line_is_named_on_which_the_quote_opens(tmp_path: Path) -> None:
    rows, ended = read(tmp_path, "rows.csv", 'id,a,b\n1,"x\ny","z\n2,u,v\n')
    assert (rows, ended) == ([], f"rows.csv:3: the quote that opens here is never closed, and 1 lines follow; {NONE}")
    assert (read(tmp_path, "rows.csv", 'id,a,b\n1,"x\ny","z\n2,u,v"\n')[1] or "").startswith(
        "rows.csv:3: the quoted cell that opens"
    )
    assert (read(tmp_path, "rows.csv", 'id,"a\n1,x"\n2,y\n')[1] or "").startswith("rows.csv:1: a quote opens in the header")


def test_whoever_says_what_quotes_are_is_believed(tmp_path: Path) -> None:
    content = 'id,a\n1,"Hello\n2,world"\n3,x\n'
    assert read(tmp_path, "rows.csv", content, quoting=True) == ([["1", "Hello\n2,world"], ["3", "x"]], None)
    assert read(tmp_path, "rows.csv", content, quoting=False) == ([["1", '"Hello'], ["2", 'world"'], ["3", "x"]], None)
    content = 'id\ta\n1\t"Hello"\n2\t"a ""b"""\n'
    assert read(tmp_path, "rows.tsv", content, quoting=True)[0] == [["1", "Hello"], ["2", 'a "b"']]
    assert read(tmp_path, "rows.tsv", content, quoting=False)[0] == [["1", '"Hello"'], ["2", '"a ""b"""']]


def test_large_cells_are_read(tmp_path: Path) -> None:
    cell = 'text, and "more"\nof it, 1\n' * 12_000
    written = '"' + cell.replace('"', '""') + '"'
    assert read(tmp_path, "rows.csv", f"id,a\n1,{written}\n2,b\n") == ([["1", cell], ["2", "b"]], None)
    assert read(tmp_path, "rows.tsv", f"id\ta\n1\t{written}\n2\tb\n") == ([["1", cell], ["2", "b"]], None)


TABS: list[tuple[str, list[Any], str | None]] = [
    # quotes are text
    ('1\t"Hello" he said\n2\tx\n', [["1", '"Hello" he said'], ["2", "x"]], None),
    ('1\t"Hello, he said\n2\tb\n3\tend"\n4\tx\n', [["1", '"Hello, he said'], ["2", "b"], ["3", 'end"'], ["4", "x"]], None),
    ('1\tHe said "hi"\n2\t"Hello"\n', [["1", 'He said "hi"'], ["2", '"Hello"']], None),
    ('1\t"\n2\t""\n3\tx"\n', [["1", '"'], ["2", '""'], ["3", 'x"']], None),
    # quotes hold cells together
    ('1\t"a ""b"" c"\n2\t"Hello"\n', [["1", 'a "b" c'], ["2", "Hello"]], None),
    ('1\t"a\tb"\n2\t"Hello"\n', [["1", "a\tb"], ["2", "Hello"]], None),
    ('1\t"a\nb"\n2\tx\n', [["1", "a\nb"], ["2", "x"]], None),
    ('1\tx\n2\t"a\n\nb\tc"\n', [["1", "x"], ["2", "a\n\nb\tc"]], None),
    # it is not clear
    ('1\tx\n2\t"Hello"\n3\ty\n', [["1", "x"]], "3: a cell is in quotes, which may be text or enclose it"),
    ('1\tx\n2\t"a ""b"""\n3\tHe said "hi"\n', [["1", "x"]], "4: quotes enclose cells in line 3 and are text in line 4"),
    ('1\t"a\nb "c" d\ne"\n2\tx\n', [], "2: a cell is in quotes, which may be text or enclose it"),
    ('1\t"a\nx\tb"\n', [], "2: a cell is in quotes, which may be text or enclose it"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "rows", "ended"), TABS, ids=[content[:30] for content, _, _ in TABS])
def test_tabs(tmp_path: Path, content: str, rows: list[Any], ended: str | None) -> None:
    assert read(tmp_path, "rows.tsv", f"id\ta\n{content}") == (rows, ended and f"rows.tsv:{ended}; {WHICH}")
    assert read(tmp_path, "rows.csv", f"id\ta\n{content}", delimiter="\t") == (rows, ended and f"rows.csv:{ended}; {WHICH}")


def test_what_the_beginning_of_a_file_of_tabs_shows_holds_for_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_READ_AHEAD", 1000)
    start = numbered(200, "\t", row_2='"Hello" he said')
    rows, ended = read(tmp_path, "rows.tsv", f'{start}90000\t"x"\n90001\t"a ""b"""\n90002\ty\n')
    assert (len(rows), ended) == (203, None)
    assert rows[-3] == ["90000", '"x"']
    assert rows[-2].startswith("203: has a quoted cell with doubled quotes, but in earlier rows quotes are text")
    start = numbered(200, "\t", row_2='"a ""b"""')
    rows, ended = read(tmp_path, "rows.tsv", f'{start}90000\t"x\n90001\ty\n90002\tthe end"\n')
    assert (len(rows), rows[1]) == (200, ["2", 'a "b"'])
    assert (ended or "").startswith("rows.tsv:202: the quoted cell that opens here ends in line 204")


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize("index", [True, False])
def test_what_pandas_writes_is_read(tmp_path: Path, quoting: Any, name: str, index: bool) -> None:
    texts = [
        "plain",
        'a "b" c',
        "tab\there",
        "two\nlines, and\tmore",
        '"',
        '"x"',
        "",
        "comma, too",
        "“typographic”",
        "\r\n",
        "'",
    ]
    frame = pd.DataFrame({"n": range(len(texts)), "a": texts, "b": texts[::-1]})
    content = frame.to_csv(sep="\t" if name.endswith("tsv") else ",", index=index, quoting=quoting)
    rows, ended = read(tmp_path, name, content)
    assert ended is None
    assert [row[-3:] for row in rows] == [[str(n), text, other] for n, text, other in frame.itertuples(index=False)]


CELL = st.text("ab1 ,;\t\n\r\"'é", max_size=8) | st.sampled_from(["1,2", "x\n1,2", '"', '""', "a, b\nc, d", "\t"])


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(CELL, CELL), max_size=6), delimiter=st.sampled_from(",;\t"), first=st.sampled_from(["n", "q1", "x"])
)
@example(rows=[("\t\r\t", "")], delimiter="\t", first="n")
@example(rows=[("x", "y"), ("\ta\nb\t", "z")], delimiter="\t", first="n")
@example(rows=[("", "\na\tb\t")], delimiter="\t", first="x")
@example(rows=[("\t", "")], delimiter="\t", first="n")
@example(rows=[("a\tb\tc", "")], delimiter="\t", first="n")
def test_what_is_written_as_csv_comes_back_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str, first: str
) -> None:
    expected = [[first, *row] for row in rows]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([["id", "a", "b"], *expected])
    folder = tmp_path_factory.getbasetemp()
    assert read(folder, "written.csv", text.getvalue(), delimiter=delimiter, quoting=True) == (expected, None)
    found, ended = read(folder, "written.csv", text.getvalue(), delimiter=delimiter)
    assert found == expected if ended is None else WHICH in ended


PLAIN = st.text('ab1 ,"', max_size=6).filter(lambda cell: '""' not in cell)


@settings(max_examples=30)
@given(rows=st.lists(st.tuples(PLAIN, PLAIN), max_size=8))
def test_lines_of_cells_between_tabs_come_back_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    expected = [[str(n), *row] for n, row in enumerate(rows)]
    content = "".join("\t".join(row) + "\n" for row in [["id", "a", "b"], *expected])
    found, ended = read(tmp_path_factory.getbasetemp(), "plain.tsv", content)
    assert found == expected if ended is None else WHICH in ended


@settings(max_examples=30)
@given(st.integers(0, 200), st.integers(0, 200))
def test_two_stray_quotes_lose_no_row(tmp_path_factory: pytest.TempPathFactory, one: int, other: int) -> None:
    content = numbered(20, ",")
    for number in (one, other):
        at = len("id,a\n") + number % (len(content) - len("id,a\n"))
        content = content[:at] + '"' + content[at:]
    rows, ended = read(tmp_path_factory.getbasetemp(), "stray.csv", content)
    assert ended is not None or len(rows) == 20


def test_a_quote_is_looked_for_within_the_longest_row(tmp_path: Path) -> None:
    rows, ended = read(tmp_path, "rows.csv", numbered(500, ",", row_3='"x'), longest=1000)
    assert (rows[-1], ended) == (["2", "word2"], f"rows.csv:4: the quote that opens here is not closed within 0 MiB; {NONE}")
    rows, ended = read(tmp_path, "rows.csv", f'id,a\n1,"{"x" * 2000}\n2,b\n', longest=1000)
    assert (rows, ended) == ([], f"rows.csv:2: a row longer than 0 MiB ends inside quotes; {NONE}")


def test_the_reading_ends_as_that_of_any_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(numbered(20, ",", row_15='x\n\n\n15.5,"y'))
    dataset = open_dataset(path=[str(path)], id_column="id")
    with pytest.raises(DatasetReadError) as caught:
        list(dataset)
    assert caught.value.damaged
    assert str(caught.value).startswith(f"{path}:19: cannot be read from here on: the quote that opens here is never closed")
