"""Render the memory ledger as HTML."""

from html import escape

from app.errors import Language
from app.models.interface import Ledger, LedgerEntry, SamplingDefaults
from app.texts import load_texts, sentence


def ledger_html(ledger: Ledger, language: Language, *, with_logs: bool = False) -> str:
    """A bar for the whole budget, a card for each model; `with_logs` also why a load failed, as the log has it."""
    cards = "".join(_card(entry, ledger.budget_mib, language, with_logs) for entry in ledger.models)
    if not cards:
        cards = f'<p class="nothing">{sentence(language, "models.none")}</p>'
    return f"{_budget(ledger, language)}<div class='cards'>{cards}</div>"


def _budget(ledger: Ledger, language: Language) -> str:
    parts = "".join(
        f'<i style="width:{_percent(entry.mib + entry.cache_mib, ledger.budget_mib)}%"'
        f' title="{escape(entry.name)}: {entry.mib + entry.cache_mib} MiB"></i>'
        for entry in ledger.models
    )
    sizes = {"used": readable_size(ledger.used_mib), "budget": readable_size(ledger.budget_mib)}
    used = sentence(language, "models.used", **sizes)
    return f'<div class="budget"><h3>{used}</h3><div class="bar">{parts}</div></div>'


def _card(entry: LedgerEntry, budget_mib: int, language: Language, with_logs: bool) -> str:
    state = _label("models.states", entry.state, language)
    facts = [_label("models.kinds", entry.kind, language), *_place(entry, language)]
    if entry.cache_mib:
        facts.append(sentence(language, "models.cache", size=readable_size(entry.cache_mib)))
    if entry.leases:
        facts.append(sentence(language, "models.leases", leases=entry.leases))
    if entry.adapters:
        facts.append(sentence(language, "models.adapters", names=", ".join(entry.adapters)))
    if entry.sampling is not None:
        facts.append(_sampling(entry.sampling, language))
    if entry.one_at_a_time:
        facts.append(sentence(language, "models.one_at_a_time"))
    share = entry.progress * 100 if entry.progress is not None else _percent(entry.mib + entry.cache_mib, budget_mib)
    return (
        f'<div class="card {entry.state}"><div class="head"><b>{escape(entry.name)}</b>'
        f'<span class="state">{state}</span></div>'
        f"{_bar(share) if entry.kind != 'remote' else ''}"
        f"<p>{' · '.join(escape(fact) for fact in facts if fact)}</p>{_detail(entry, language)}"
        f"{_log(entry, language) if with_logs else ''}</div>"
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
        return sentence(language, "models.weights", size=readable_size(entry.mib))
    return sentence(language, "models.weights_of", size=readable_size(entry.mib), full=readable_size(entry.full_mib))


def _drift(entry: LedgerEntry, language: Language) -> list[str]:
    if entry.drift is None:
        return []
    kl, same = f"{entry.drift.mean_kl:.3f}", f"{entry.drift.same_choice:.0%}"
    return [sentence(language, "models.drift", kl=kl, same=same)]


def _sampling(usual: SamplingDefaults, language: Language) -> str:
    """What its makers sample with, as far as it is more than nothing."""
    parts = [f"temperature {usual.temperature:g}", f"top-p {usual.top_p:g}"]
    parts += [f"top-k {usual.top_k}"] if usual.top_k else []
    parts += [f"min-p {usual.min_p:g}"] if usual.min_p else []
    parts += [f"repetition penalty {usual.repetition_penalty:g}"] if usual.repetition_penalty != 1 else []
    return sentence(language, "models.sampling", values=", ".join(parts))


def _log(entry: LedgerEntry, language: Language) -> str:
    if not entry.log:
        return ""
    summary = sentence(language, "models.log")
    return f"<details><summary>{summary}</summary><pre>{escape(entry.log)}</pre></details>"


def _detail(entry: LedgerEntry, language: Language) -> str:
    detail = (language == "zh" and entry.detail_zh) or entry.detail
    return f'<p class="detail">{escape(detail)}</p>' if detail else ""


def _label(table: str, value: str, language: Language) -> str:
    labels = load_texts(language)[table]
    return labels.get(value, value) if isinstance(labels, dict) else value


def _percent(part: int, whole: int) -> float:
    return round(min(100.0, 100 * part / whole), 1) if whole > 0 else 0.0


def readable_size(mib: int) -> str:
    """MiB, or GiB from one on."""
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib} MiB"
