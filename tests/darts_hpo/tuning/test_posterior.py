"""The surrogate in the objective's own units."""

import numpy as np
import pytest

from darts_hpo.space import Float, Space
from darts_hpo.tuning import events
from darts_hpo.tuning.history import History
from darts_hpo.tuning.objectives import Objective
from darts_hpo.tuning.surrogates.posterior import Posterior

SPACE = Space({"x": Float(0.0, 1.0)})


def told(values, direction="maximize"):
    history = History(SPACE, (Objective("value", direction),))
    for x, value in values:
        history = events.ask(history, {"x": x})
        history = events.tell(history, len(history) - 1, {"value": value})
    return history


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_posterior_passes_near_the_data_and_widens_away(direction):
    xs = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    data = [(x, 100 + 10 * np.sin(5 * x)) for x in xs]
    mean, deviation = Posterior(told(data, direction)).at([{"x": x} for x in [*xs, 1.0]])
    # The worst of few results is drawn in a little: how bad is bad does not matter to a search.
    assert mean[1:-1] == pytest.approx([value for _, value in data[1:]], abs=0.8)
    assert deviation[-1] > 3 * deviation[:-1].max()
