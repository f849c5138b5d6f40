"""Cells as a spreadsheet shows them, format by format."""

from datetime import datetime, time, timedelta

import pytest

from app.knowledge.ingest.number_formats import shown


@pytest.mark.parametrize(
    ("value", "number_format", "expected"),
    [
        (13800000001, "General", "13800000001"),
        (13800000001, "000-0000-0000", "138-0000-0001"),
        (1234.5, '_-* #,##0.00\\ [$€-407]_-;\\-* #,##0.00\\ [$€-407]_-;_-* "-"??\\ [$€-407]_-', "1,234.50 €"),
        (0, '_-* #,##0.00_-;\\-* #,##0.00_-;_-* "-"??_-', "-"),
        (-1234.5, '"$"#,##0.00_);[Red]("$"#,##0.00)', "($1,234.50)"),
        (99.5, "[$¥-804]#,##0.00", "¥99.50"),
        (-0.05, "0%", "-5%"),
        (2.5, "0", "3"),
        (-0.4, "0", "0"),
        (1234567, '#,##0,"k"', "1,235k"),
        (123456.789, "0.00E+00", "1.23E+05"),
        (1.25, "# ??/??", "1 1/4"),
        (75, '[>50]"high "0;[<=50]"low "0', "high 75"),
        (5, ";;;", ""),
        (5, 'General" pcs"', "5 pcs"),
        (True, "General", "TRUE"),
        (datetime(2024, 2, 29), "m/d/yy", "2024-02-29"),
        (datetime(2024, 2, 1), "mmm yyyy", "2024-02"),
        (datetime(2024, 2, 29), 'yyyy"年"m"月"d"日"', "2024年2月29日"),
        (datetime(2024, 2, 29, 13, 5), "h:mm AM/PM", "13:05"),
        (time(9, 30), "h:mm", "09:30"),
        (timedelta(hours=27, minutes=30), "[h]:mm:ss", "27:30:00"),
        (timedelta(minutes=95), "[mm]:ss", "95:00"),
        (None, "0.00", ""),
        (1e26, "0.00", "1" + "0" * 26 + ".00"),
        (1e25, "0.0%", "1" + "0" * 27 + ".0%"),
        (float("inf"), "0.00", "inf"),
    ],
)
def test_values_are_shown_as_the_sheet_shows_them(value: object, number_format: str, expected: str) -> None:
    assert shown(value, number_format) == expected
