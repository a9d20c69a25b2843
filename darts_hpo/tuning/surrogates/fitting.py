"""When hyperparameters are fitted anew, to which results, and what happens where that fails."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from darts_hpo.errors import ConfigError
from darts_hpo.tuning.surrogates.gaussian_process import FitError, GaussianProcess, Hyperparameters, ModelSettings, fit
from darts_hpo.tuning.surrogates.mixed_kernel import OneHot

_REMEMBERED = 64
_VERY_STRONG = 5.0
"""Logarithm of a Bayes factor (Kass and Raftery 1995, section 3.2)."""


@dataclass(frozen=True)
class FitSchedule:
    """Hyperparameters are fitted at certain numbers of results only, and then to a bounded number of them.

    A pure function of the number of results: a study that resumes fits at the same points.

    Args:
        always: up to so many results, every result refits.
        growth: beyond, the next fit waits for so many times as many results.
        largest: a fit sees at most so many results; its cost grows with their cube.

    Raises:
        ConfigError: ``always`` is below 1, ``growth`` not above 1, or ``largest`` below 16.
    """

    always: int = 30
    growth: float = 1.1
    largest: int = 300

    def __post_init__(self) -> None:
        if self.always < 1 or self.growth <= 1.0 or self.largest < 16:
            raise ConfigError(
                f"A refit schedule of always={self.always}, growth={self.growth}, largest={self.largest}: "
                "expected always >= 1, growth > 1 and largest >= 16."
            )

    def last(self, results: int) -> int:
        """At how many results the last fit was due, given how many there are."""
        if results <= self.always:
            return results
        due = self.always
        while True:
            following = max(due + 1, int(due * self.growth))
            if following > results:
                return due
            due = following

    def rows(self, y: Tensor) -> Tensor:
        """Indices of the results that a fit sees: the best half of the allowance, and others spread evenly.

        Args:
            y: shape ``[n]``, more is better.
        """
        n = len(y)
        if n <= self.largest:
            return torch.arange(n)
        order = y.argsort(descending=True, stable=True)
        half = self.largest // 2
        rest = order[half:].sort().values
        spread = rest[torch.linspace(0, len(rest) - 1, self.largest - half).round().long()]
        return torch.cat([order[:half], spread]).sort().values


class _Fit(NamedTuple):
    """What came of a fit: hyperparameters and how well they explain the data, or why there are none."""

    hyperparameters: Hyperparameters | None
    log_evidence: float
    trouble: str | None


class Fitter:
    """Fits processes, remembering hyperparameters by the data they were fitted to.

    What it remembers only saves work: a fit depends on its data alone.

    Args:
        settings: kind of process.
        schedule: when to refit.
    """

    def __init__(self, settings: ModelSettings, schedule: FitSchedule) -> None:
        self.settings, self.schedule = settings, schedule
        self._known: OrderedDict[bytes, _Fit] = OrderedDict()

    def process(
        self, x: Tensor, y: Tensor, early_x: Tensor, early_y: Tensor, one_hot: OneHot = ()
    ) -> tuple[GaussianProcess, str | None]:
        """A process conditioned on all rows, its hyperparameters fitted to those of the last scheduled fit.

        With ``warp: auto`` that fit is made with and without a warp, and the kind that explains the results better
        is taken. Where the fit fails, so in turn: without warping, with the modes of the priors. Where the
        conditioning fails, so with more noise, up to a thousandfold.

        Args:
            x: shape ``[n, d]``.
            y: shape ``[n]``.
            early_x: the rows that the scheduled fit sees, shape ``[k, d]``.
            early_y: shape ``[k]``.
            one_hot: first column and width of every categorical.

        Returns:
            The process, and what failed on the way to it, if anything did.

        Raises:
            FitError: nothing worked.
        """
        rows = self.schedule.rows(early_y)
        seen_x, seen_y = early_x[rows], early_y[rows]
        trouble: list[str] = []
        for settings, hyperparameters in self._attempts(seen_x, seen_y, one_hot, trouble):
            for noise_factor in (1.0, 10.0, 1000.0):
                try:
                    process = GaussianProcess(x, y, hyperparameters, settings, noise_factor)
                except FitError as error:
                    trouble.append(str(error))
                else:
                    return process, "; ".join(dict.fromkeys(trouble)) or None
        raise FitError("; ".join(dict.fromkeys(trouble)))

    def _attempts(
        self, x: Tensor, y: Tensor, one_hot: OneHot, trouble: list[str]
    ) -> Iterator[tuple[ModelSettings, Hyperparameters | None]]:
        """Kinds of process to try in turn, with hyperparameters fitted to some rows; None stands for their priors."""
        plain = replace(self.settings, one_hot=one_hot, warp=False)
        warped = replace(plain, warp=True)
        kinds = [warped, plain] if self.settings.warp else [plain]
        if self.settings.warp == "auto":
            kinds = self._by_evidence(x, y, plain, warped)
        for kind in kinds:
            found = self._fit(x, y, kind)
            if found.hyperparameters is not None:
                yield kind, found.hyperparameters
            trouble += [found.trouble] if found.trouble else []
        yield plain, None

    def _by_evidence(self, x: Tensor, y: Tensor, plain: ModelSettings, warped: ModelSettings) -> list[ModelSettings]:
        """Both kinds, the plain one first unless the evidence for the other is very strong.

        Only the plain one where there are too few results to compare.
        """
        numbers = len(plain.numbers(x.shape[1]))
        if not numbers or len(x) <= 3 * numbers + len(plain.one_hot):
            # As many hyperparameters as results: not worth the time that the fit takes.
            return [plain]
        factor = self._fit(x, y, warped).log_evidence - self._fit(x, y, plain).log_evidence
        return [warped, plain] if factor > _VERY_STRONG else [plain, warped]

    def _fit(self, x: Tensor, y: Tensor, settings: ModelSettings) -> _Fit:
        digest = hashlib.sha256(repr((settings, tuple(x.shape))).encode())
        digest.update(x.numpy().tobytes())
        digest.update(y.numpy().tobytes())
        known = digest.digest()
        if known not in self._known:
            self._known[known] = _fitted(x, y, settings)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(known)
        return self._known[known]


def _fitted(x: Tensor, y: Tensor, settings: ModelSettings) -> _Fit:
    try:
        hyperparameters = fit(x, y, settings)
    except FitError as error:
        return _Fit(None, -math.inf, f"fit failed: {error}")
    try:
        return _Fit(hyperparameters, GaussianProcess(x, y, hyperparameters, settings).log_evidence, None)
    except FitError:
        # With more noise, they may still do.
        return _Fit(hyperparameters, -math.inf, None)
