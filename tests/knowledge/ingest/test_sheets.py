"""Excel and CSV to Markdown: cells as they are shown, where a table ends, what its head is."""

from datetime import datetime

import pytest
from openpyxl.worksheet.formula import ArrayFormula, DataTableFormula

from tests.knowledge.ingest.conftest import Read
from tests.knowledge.ingest.made_files import sheet


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (
            sheet([["Phone", "Paid", "Due"], [13800000001, True, datetime(2026, 1, 5)], [None, False, None]]),
            ["| 13800000001 | TRUE | 2026-01-05 |", "|  | FALSE |  |"],
        ),
        (sheet([["Item", "Total"], ["Rope", "=B9*2"]]), ["| Rope | =B9*2 |"]),
        (
            sheet([["Rate", "Sum", "Code"], [0.256, 1234.5, 7]], {"A2": "0.0%", "B2": "#,##0.00", "C2": "00000"}),
            ["| 25.6% | 1,234.50 | 00007 |"],
        ),
        (
            sheet([["Report 2026"], [], ["City", "People"], ["Ulm", 126405], [None, 3]], merged="A4:A5"),
            ["Report 2026\n\n| City | People |", "| Ulm | 126405 |\n| Ulm | 3 |"],
        ),
        (sheet([["a|b", "two\nlines"], [0.1 + 0.2, 1e-7]]), ["| a\\|b | two lines |", "| 0.3 | 0.0000001 |"]),
        (
            sheet([["Item", "Twice"], [3, ArrayFormula("B2", "=A2:A3*2")], [1, DataTableFormula("B3", r1="D1")]]),
            ["| 3 | =A2:A3*2 |", "| 1 | =TABLE(D1,) |"],
        ),
    ],
    ids=["types", "formulas", "formats", "titles and merged cells", "marks of tables", "array formulas"],
)
def test_sheets_are_read_as_they_are_shown(read: Read, raw: bytes, lines: list[str]) -> None:
    content = read("a.xlsx", raw).content
    assert all(line in content for line in lines), content
    assert not any(word in content for word in ("NaN", "NaT", "Unnamed", "e+"))


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "Name;Region;Betrag\nMüller;Süd;1.234,50\nWeiß;Nord;99,90\n", "| Müller | Süd | 1.234,50 |"),
        ("a.csv", 'name,note\nAnn,"one, two; three"\nBob,"x;y"\n', "| Ann | one, two; three |"),
        ("a.csv", "sep=|\nname|age\nAnn|3\n", "| Ann | 3 |"),
        ("a.tsv", "name\tage\nAnn\t3,5\n", "| Ann | 3,5 |"),
        ("a.csv", "名称\n苹果\n", "| 苹果 |"),
        ("a.csv", "name,badge\nA,red\n\nB,blue\nC,green\n", "| A | red |\n| B | blue |\n| C | green |"),
        ("a.csv", "Item;Price\nRope;3\n;\nCity;People\nUlm;5\n", "| City | People |\n| --- | --- |\n| Ulm | 5 |"),
    ],
)
def test_separated_values(read: Read, name: str, text: str, line: str) -> None:
    assert line in read(name, text.encode("utf-8-sig")).content


PEOPLE = [["Name", "Age"], ["Ann", 3]]
BADGES = [["Name", "Badge"], ["Ann", "red"], []]


@pytest.mark.parametrize(
    ("raw", "table"),
    [
        (sheet([*PEOPLE, [], ["Bob", "unknown"], ["Carl", 5]]), "| Ann | 3 |\n| Bob | unknown |\n| Carl | 5 |"),
        (sheet([*PEOPLE, [], ["Bob"], ["Carl", 5]]), "| Ann | 3 |\n| Bob |  |\n| Carl | 5 |"),
        (sheet([*PEOPLE, [], [None, 3], [], ["Source: city"]]), "| Ann | 3 |\n|  | 3 |\n\nSource: city"),
        (sheet([*PEOPLE, [], *PEOPLE, ["Bob", 4]]), "| Ann | 3 |\n| Ann | 3 |\n| Bob | 4 |"),
        (sheet([*BADGES, ["Bob", "blue"], ["Carl", "red"]]), "| Ann | red |\n| Bob | blue |\n| Carl | red |"),
        (
            sheet([*PEOPLE, [], ["City", "People"], ["Ulm", 5]]),
            "| Ann | 3 |\n\n| City | People |\n| --- | --- |",
        ),
        (
            sheet([*PEOPLE, [], ["Place", 2025], ["Ulm", 126405]]),
            "| Ann | 3 |\n\n| Place | 2025 |\n| --- | --- |",
        ),
        (
            sheet([*BADGES, ["Room", "Colour"], ["hall", "white"]], bold="A1 B1 A4 B4"),
            "| Ann | red |\n\n| Room | Colour |\n| --- | --- |\n| hall | white |",
        ),
        (
            sheet([*PEOPLE, [], ["Zoe", "old"], ["Carl", 5]], table="A1:B5"),
            "| Ann | 3 |\n| Zoe | old |\n| Carl | 5 |",
        ),
        (
            sheet([["North"], *PEOPLE, [], ["South"], ["Bob", 4]]),
            "| Name | Age |\n| --- | --- |\n| Ann | 3 |\n\nSouth\n\n| Name | Age |\n| --- | --- |\n| Bob | 4 |",
        ),
        (
            sheet([["Name", 2025, None], [None, "Q1", "Q2"], ["Ann", 3, 4]], merged="B1:C1 A1:A2"),
            "| Name | 2025 Q1 | 2025 Q2 |\n| --- | --- | --- |\n| Ann | 3 | 4 |",
        ),
    ],
    ids=["missing", "one-cell", "total", "again", "text", "names", "years", "bold", "named", "titles", "merged-head"],
)
def test_an_empty_row_ends_a_table_where_names_of_columns_follow(read: Read, raw: bytes, table: str) -> None:
    content = read("a.xlsx", raw).content
    assert table in content, content


def test_rows_after_an_empty_one_in_a_csv(read: Read) -> None:
    content = read("a.csv", b"name,age\nAnn,3\n\nBob,n/a\nCarl,5\n\nroom,colour,floor\nhall,white,ground\n").content
    assert content == (
        "| name | age |\n| --- | --- |\n| Ann | 3 |\n| Bob | n/a |\n| Carl | 5 |\n\n"
        "| room | colour | floor |\n| --- | --- | --- |\n| hall | white | ground |"
    )
    content = read("a.csv", b"fruit\napple\n\npear\nplum\n\nfig\n").content
    assert content == "| fruit |\n| --- |\n| apple |\n| pear |\n| plum |\n| fig |"


def test_a_colour_of_every_other_row_makes_no_head_of_one(read: Read) -> None:
    rows: list[list[object]] = [["Item", "Price"], ["Pump", 5], [], ["Rope", 3], ["Nail", 1]]
    content = read("a.xlsx", sheet(rows, bold="A1 B1 A4 B4")).content
    assert "| Pump | 5 |\n| Rope | 3 |\n| Nail | 1 |" in content, content
