"""Command line of the evaluation: `python -m app evaluate MODEL... --tasks`, results as a Markdown table."""

import argparse
import sys

from app.access.identity import server
from app.evaluate.service import EvaluationService, Row
from app.evaluate.tasks import find_task, shipped_tasks

OWNER = server("terminal")  # whoever has the machine may ask every model, whose ever it is


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    known = ",".join(shipped_tasks())
    parser.add_argument("models", nargs="+", metavar="MODEL", help="catalog name, base+adapter, repository or folder")
    parser.add_argument("--tasks", default=known, help=f"names or JSONL files, separated by commas (default: {known})")
    parser.add_argument("--details", action="store_true", help="also print every question with what was said")


def evaluate(service: EvaluationService, options: argparse.Namespace) -> int:
    """Print progress to standard error, the table to standard output."""
    tasks = [find_task(name.strip()) for name in options.tasks.split(",") if name.strip()]
    rows: list[Row] = []
    for progress in service.run(options.models, tasks, OWNER):
        print(
            f"\r{progress.model} {progress.task} {progress.done}/{progress.total}   ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        if progress.row is not None:
            rows.append(progress.row)
    print(file=sys.stderr)
    print("\n".join(table(rows)))
    if options.details:
        for row in rows:
            for mark in row.marks:
                fields = (row.model, row.task, "+" if mark.right else "-", mark.question, mark.said, mark.expected)
                print("\t".join(fields))
    return 0


def table(rows: list[Row]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| model | task | right | of | share | 95 % | chance | seconds |", "|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        low, high = row.error_range
        figures = f"{row.right} | {row.count} | {row.share:.0%} | {low:.0%}-{high:.0%} | {row.chance:.0%}"
        lines.append(f"| {row.model} | {row.task} | {figures} | {row.seconds:.1f} |")
    return lines
