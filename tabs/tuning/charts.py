"""Line plots over training steps."""

from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr
import pandas

FEW_STEPS = 12


def over_steps(rows: Iterable[Sequence[object]], columns: Sequence[str]) -> dict[str, Any]:
    """An update of a plot over the column `step`; the numbers on its axis are whole."""
    table = pandas.DataFrame(rows, columns=list(columns))
    steps = sorted(set(table["step"]))
    if len(steps) > FEW_STEPS:
        return gr.update(value=table, sort=None, visible=True)
    # over a short range the plot would mark 4.0, 4.5, 5.0; names are marked as they are
    table["step"] = table["step"].astype(str)
    return gr.update(value=table, sort=[str(step) for step in steps], visible=bool(steps))
