"""A policy over choices, trained by REINFORCE (Williams 1992): one softmax for each choice, all independent.

Zoph and Le (2017, arXiv:1611.01578) sample whole architectures from a recurrent controller; Ying et al. (2019,
arXiv:1902.09635) found independent softmaxes to do as well on tables of training runs, and a session is too short to
train more than these.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Levels = tuple[object, ...]
"""What one choice may be: at least two values."""

MOVED = 3.0  # choices that a first sample makes otherwise than the baseline, on average
RATE = 0.6  # step of the logits for an advantage of one
FADE = 0.9  # of the moving baseline and the scale, per reward
CLIP = 2.0  # largest advantage


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing to choose: its levels, and the index of the one that the baseline has."""

    levels: Levels
    start: int


class Policy:
    """A distribution over what each choice may be, which begins near the baseline.

    The advantage of a reward is its distance from a moving average of the rewards, in units of their moving spread.
    """

    def __init__(self, choices: Mapping[str, Choice]) -> None:
        self.choices = choices
        stay = max(1 - MOVED / len(choices), 0.5) if choices else 1.0
        self.logits = {name: _start(choice, stay) for name, choice in choices.items()}
        self.average, self.spread = 0.0, 0.0

    def sample(self, draw: random.Random, temperature: float = 1.0) -> dict[str, int]:
        """An index of a level for each choice. A higher temperature spreads the choice out."""
        return {
            name: draw.choices(range(len(logits)), softmax(logits, temperature))[0]
            for name, logits in self.logits.items()
        }

    def learn(self, taken: Mapping[str, int], reward: float) -> None:
        """A step up the reward's gradient; ``taken`` holds the choices that are known, ``reward`` is finite."""
        distance = reward - self.average
        self.spread = FADE * self.spread + (1 - FADE) * abs(distance) if self.spread else abs(distance)
        self.average += (1 - FADE) * distance
        if not self.spread:
            return
        step = RATE * min(max(distance / self.spread, -CLIP), CLIP)
        for name, index in taken.items():
            logits = self.logits[name]
            for n, p in enumerate(softmax(logits)):
                logits[n] += step * ((n == index) - p)


def softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    """The probabilities that go with ``logits``."""
    top = max(logits)
    weights = [math.exp((logit - top) / temperature) for logit in logits]
    whole = sum(weights)
    return [weight / whole for weight in weights]


def _start(choice: Choice, stay: float) -> list[float]:
    other = (1 - stay) / (len(choice.levels) - 1)
    return [math.log(stay if n == choice.start else other) for n in range(len(choice.levels))]
