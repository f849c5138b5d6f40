"""The models panel: what is loaded, how much memory it holds."""

from typing import Any

import gradio as gr

from app.models.interface import Ledger, Registry
from tabs.page import Page, Visitor


def build(page: Page, registry: Registry) -> None:
    """Draw the panel and publish `/models`."""
    gr.HTML(value="")

    def models(_visitor: Visitor) -> dict[str, Any]:
        """The memory ledger of the server."""
        return ledger_json(registry.ledger())

    page.api(models, "models")


def ledger_json(ledger: Ledger) -> dict[str, Any]:
    """The ledger as the `/models` endpoint gives it."""
    return {
        "budget_mib": ledger.budget_mib,
        "used_mib": ledger.used_mib,
        "models": [
            {
                "name": entry.name,
                "kind": entry.kind,
                "state": entry.state,
                "device": entry.device,
                "mib": entry.mib,
                "adapters": list(entry.adapters),
                "leases": entry.leases,
            }
            for entry in ledger.models
        ],
    }
