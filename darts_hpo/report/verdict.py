"""Whether to trust a search, in plain words.

A gradient search always ends with an architecture; these are the ways in which it can mean nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from darts_hpo.report.record import RunRecord, mapping, number, numbers, probabilities, random_networks
from darts_hpo.report.spread import spread

Level: TypeAlias = Literal["good", "caution", "bad", "info"]

UNMOVED, BARELY_MOVED = 0.03, 0.10
"""Commitment (0: uniform, 1: a single option left) below which logits did not move, or hardly."""

CLOSE_CALL = 0.05
"""Lead of the best option over the second, in probability, below which the decision is a coin toss."""

MANY = 0.25
"""Share of choices from which an irregularity concerns the search as a whole."""

ONE_FOR_ALL, FEWEST_CHOICES = 0.9, 4
"""Share of choices won by one option that looks like a collapse; the number of choices it takes to say so."""

FEW_EPOCHS = 5

STANDARD_ERRORS = 2.0
"""Distance from the mean of random architectures, in its standard errors, that luck alone seldom gives."""


@dataclass(frozen=True)
class Finding:
    """One observation about a search.

    Attributes:
        level: how it bears on trust.
        title: the observation in a few words.
        text: what it means and what to do.
    """

    level: Level
    title: str
    text: str


def judge(record: RunRecord) -> list[Finding]:
    """Observations about the search of a run; empty where nothing was searched."""
    if not record.alphas:
        return []
    final = record.final_probabilities
    trajectory = [probabilities(row) for row in record.alphas]
    findings = [
        _length(len(trajectory)),
        _movement(final),
        _margins(final),
        _stability(trajectory),
        _uniformity(final, record.choices),
        _indicators(record.alphas),
        _payoff(record),
        _against_random(record),
    ]
    return [finding for finding in findings if finding is not None]


def summary(findings: Sequence[Finding]) -> Finding:
    """The findings in one sentence, at the level of the worst."""
    levels = {finding.level for finding in findings}
    if "bad" in levels:
        return Finding(
            "bad",
            "Do not trust this search yet",
            "At least one sign below says that its result is arbitrary.",
        )
    if "caution" in levels:
        return Finding("caution", "Trust this search with care", "Read the signs below before you build on it.")
    return Finding("good", "This search looks sound", "None of the known bad signs is present.")


def commitment(options: Mapping[str, float]) -> float:
    """Distance from the uniform distribution: 0 where all options are equal, 1 where one is left."""
    if len(options) < 2:
        return 1.0
    uniform = 1 / len(options)
    return 0.5 * sum(abs(p - uniform) for p in options.values()) / (1 - uniform)


def lead(options: Mapping[str, float]) -> float:
    """Probability of the best option minus that of the second."""
    ordered = sorted(options.values(), reverse=True)
    return ordered[0] - ordered[1] if len(ordered) > 1 else 1.0


def _length(epochs: int) -> Finding | None:
    if epochs >= FEW_EPOCHS:
        return None
    return Finding(
        "caution",
        f"Only {epochs} epoch{'s' if epochs != 1 else ''} of search",
        "Early gradients favour options that train fast. Search longer before comparing architectures.",
    )


def _movement(final: Mapping[str, Mapping[str, float]]) -> Finding:
    values = [commitment(options) for options in final.values()]
    largest, mean = max(values), sum(values) / len(values)
    numbers_ = f"Distance from uniform: {mean:.2f} on average, {largest:.2f} at most (0 uniform, 1 decided)."
    if largest < UNMOVED:
        return Finding(
            "bad",
            "The alphas did not move",
            f"{numbers_} The architecture is as good as one drawn at random. Search longer or raise the "
            "architecture learning rate.",
        )
    if mean < BARELY_MOVED:
        return Finding(
            "caution",
            "The alphas barely moved",
            f"{numbers_} A different seed may well choose differently. Search longer or raise the "
            "architecture learning rate.",
        )
    return Finding("good", "The alphas moved", numbers_)


def _margins(final: Mapping[str, Mapping[str, float]]) -> Finding:
    close = [name for name, options in final.items() if lead(options) < CLOSE_CALL]
    if not close:
        return Finding("good", "Every choice has a clear winner", f"Each leads by at least {CLOSE_CALL:.2f}.")
    level: Level = "caution" if len(close) >= MANY * len(final) else "info"
    return Finding(
        level,
        f"{len(close)} of {len(final)} choices are close calls",
        f"The best option leads the second by less than {CLOSE_CALL:.2f} in {_listed(close)}. "
        "The runner-up is as good a guess there.",
    )


def _stability(trajectory: Sequence[Mapping[str, Mapping[str, float]]]) -> Finding | None:
    window = trajectory[-(math.ceil(len(trajectory) / 4) + 1) :]
    if len(window) < 2:
        return None
    best = [{name: max(options, key=options.__getitem__) for name, options in epoch.items()} for epoch in window]
    changed = [name for name in best[-1] if len({epoch[name] for epoch in best if name in epoch}) > 1]
    span = f"the last {len(window) - 1} epoch{'s' if len(window) > 2 else ''}"
    if not changed:
        return Finding("good", "The decisions are settled", f"No choice changed its best option in {span}.")
    return Finding(
        "bad" if len(changed) > 0.5 * len(best[-1]) else "caution",
        f"{len(changed)} of {len(best[-1])} choices still changed late",
        f"The best option of {_listed(changed)} changed in {span}: the search ended before it had decided.",
    )


def _uniformity(final: Mapping[str, Mapping[str, float]], choices: Mapping[str, str]) -> Finding | None:
    groups: dict[frozenset[str], list[str]] = {}
    for name, options in final.items():
        if name in choices:
            groups.setdefault(frozenset(options), []).append(choices[name])
    for candidates, winners in groups.items():
        option, count = Counter(winners).most_common(1)[0]
        if len(candidates) > 1 and len(winners) >= FEWEST_CHOICES and count >= ONE_FOR_ALL * len(winners):
            return Finding(
                "caution",
                f"{option} wins {count} of {len(winners)} choices",
                "It may be the best option, but a search that collapses looks the same: it drifts everywhere "
                "to the option that trains fastest. Compare with the reference and random architectures.",
            )
    return None


def _indicators(alphas: Sequence[Mapping[str, Any]]) -> Finding | None:
    first, last = (
        dict(numbers(mapping(alphas[0], "indicators"))),
        dict(numbers(mapping(alphas[-1], "indicators"))),
    )
    parts = [
        f"{name} {first[name]:.3g} → {value:.3g}"
        for name, value in last.items()
        if value is not None and first.get(name) is not None
    ]
    if not parts:
        return None
    return Finding("info", "Collapse indicators, first → last epoch", "; ".join(parts) + ".")


def _payoff(record: RunRecord) -> Finding | None:
    name = record.primary_metric
    found = number(mapping(record.metrics, "found", "val").get(name)) if name else None
    reference = number(mapping(record.metrics, "reference", "val").get(name)) if name else None
    if found is None or reference is None:
        return None
    text = (
        f"{name} on val: {found:.3f} found, {reference:.3f} reference, trained the same way. One seed each: "
        "a difference below the spread between seeds means nothing."
    )
    if found > reference:
        return Finding("info", "The found network scores above the reference", text)
    return Finding("caution", "The found network does not score above the reference", text)


def _against_random(record: RunRecord) -> Finding | None:
    name, networks = record.primary_metric, random_networks(record.metrics)
    found = number(mapping(record.metrics, "found", "val").get(name)) if name else None
    random = spread(networks, "val", name) if name else None
    if name is None or found is None or random is None:
        return None
    number_, above = len(random.values), sum(found > value for value in random.values)
    others = f"{number_} random architecture{'s' if number_ > 1 else ''}"
    text = (
        f"{name} on val: {found:.3f} found; {others} trained the same way: {random.mean:.3f}"
        f"{' on average' if number_ > 1 else ''}. "
    )
    error = random.standard_error
    if error is None:
        more = "One random architecture says nothing of their spread: ask for more with random=5."
        return Finding("info", f"The found network scores {_side(found, random.mean)} a random one", text + more)
    text += f"The found network scores above {'all' if above == number_ else above or 'none'} of them, "
    if error > 0:
        text += f"{abs(found - random.mean) / error:.1f} standard errors {_side(found, random.mean)} their mean"
    else:
        text += f"{_side(found, random.mean)} their mean, of which they do not differ"
    text += f"{_on_test(record, name)}."
    if found <= random.mean:
        return Finding("bad", "The search does not beat random architectures", text)
    if found - random.mean <= STANDARD_ERRORS * error:
        lucky = f" Below {STANDARD_ERRORS:g} standard errors luck is explanation enough; train more with random=N."
        return Finding("caution", "The search hardly beats random architectures", text + lucky)
    return Finding("good", "The search beats random architectures", text)


def _on_test(record: RunRecord, name: str) -> str:
    found = number(mapping(record.metrics, "found", "test").get(name))
    random = spread(random_networks(record.metrics), "test", name)
    if found is None or random is None or not random.standard_error:
        return ""
    return f" (on test {abs(found - random.mean) / random.standard_error:.1f} {_side(found, random.mean)})"


def _side(value: float, other: float) -> str:
    return "above" if value > other else "below" if value < other else "exactly at"


def _listed(names: Sequence[str], limit: int = 4) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
