"""The memory ledger as HTML."""

from html import escape

from app.errors import Language
from app.models.interface import Ledger, LedgerEntry
from app.texts import load_texts, sentence


def ledger_html(ledger: Ledger, language: Language) -> str:
    """A bar for the whole budget, a card for each model."""
    cards = "".join(_card(entry, ledger.budget_mib, language) for entry in ledger.models)
    if not cards:
        cards = f'<p class="nothing">{sentence(language, "models.none")}</p>'
    return f"{_budget(ledger, language)}<div class='cards'>{cards}</div>"


def _budget(ledger: Ledger, language: Language) -> str:
    parts = "".join(
        f'<i style="width:{_percent(entry.mib + entry.cache_mib, ledger.budget_mib)}%"'
        f' title="{escape(entry.name)}: {entry.mib + entry.cache_mib} MiB"></i>'
        for entry in ledger.models
    )
    used = sentence(language, "models.used", used=_size(ledger.used_mib), budget=_size(ledger.budget_mib))
    return f'<div class="budget"><h3>{used}</h3><div class="bar">{parts}</div></div>'


def _card(entry: LedgerEntry, budget_mib: int, language: Language) -> str:
    state = _label("models.states", entry.state, language)
    facts = [_label("models.kinds", entry.kind, language), *_place(entry, language)]
    if entry.cache_mib:
        facts.append(sentence(language, "models.cache", size=_size(entry.cache_mib)))
    if entry.leases:
        facts.append(sentence(language, "models.leases", leases=entry.leases))
    if entry.adapters:
        facts.append(sentence(language, "models.adapters", names=", ".join(entry.adapters)))
    if entry.one_at_a_time:
        facts.append(sentence(language, "models.one_at_a_time"))
    share = entry.progress * 100 if entry.progress is not None else _percent(entry.mib + entry.cache_mib, budget_mib)
    return (
        f'<div class="card {entry.state}"><div class="head"><b>{escape(entry.name)}</b>'
        f'<span class="state">{state}</span></div>'
        f"{_bar(share) if entry.kind != 'remote' else ''}"
        f"<p>{' · '.join(escape(fact) for fact in facts if fact)}</p>{_detail(entry, language)}</div>"
    )


def _bar(share: float) -> str:
    return f'<div class="bar"><i style="width:{share:.1f}%"></i></div>'


def _place(entry: LedgerEntry, language: Language) -> list[str]:
    """Where the weights are and how large; of a far engine, how many of its replicas are well."""
    if entry.kind != "remote":
        return [entry.device, entry.engine, _weights(entry, language), *_drift(entry, language)]
    well = entry.device.removeprefix("remote").strip()
    return [sentence(language, "models.replicas", well=well)] if well else []


def _weights(entry: LedgerEntry, language: Language) -> str:
    if not entry.full_mib or entry.state != "ready":
        return sentence(language, "models.weights", size=_size(entry.mib))
    return sentence(language, "models.weights_of", size=_size(entry.mib), full=_size(entry.full_mib))


def _drift(entry: LedgerEntry, language: Language) -> list[str]:
    if entry.drift is None:
        return []
    kl, same = f"{entry.drift.mean_kl:.3f}", f"{entry.drift.same_choice:.0%}"
    return [sentence(language, "models.drift", kl=kl, same=same)]


def _detail(entry: LedgerEntry, language: Language) -> str:
    detail = (language == "zh" and entry.detail_zh) or entry.detail
    return f'<p class="detail">{escape(detail)}</p>' if detail else ""


def _label(table: str, value: str, language: Language) -> str:
    labels = load_texts(language)[table]
    return labels.get(value, value) if isinstance(labels, dict) else value


def _percent(part: int, whole: int) -> float:
    return round(min(100.0, 100 * part / whole), 1) if whole > 0 else 0.0


def _size(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib} MiB"
