"""What `infer_quality` gives to a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_inferforge.errors import UsageError
from pytest_inferforge.pytest_plugin.layers import nearest

if TYPE_CHECKING:
    from pytest_inferforge.outcomes import Outcomes, QualityResult
    from pytest_inferforge.quality.evaluation import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality(Mapping[str, float | None]):
    """The tasks of one test on one boot: `infer_quality["gsm8k"]` is its mean score (0 to 1).

    `outcomes`: task -> what each item got. `results`: floors, and what load did to it. `loaded`: the tasks
    asked again while load ran, and `load` what ran meanwhile. `seconds`: how long it took, boots left out.
    """

    nodeid: str
    variant: str
    server_number: int
    evaluation: Evaluation
    results: tuple[QualityResult, ...] = ()
    loaded: Evaluation | None = None
    load: str = ""

    @property
    def outcomes(self) -> Mapping[str, Outcomes]:
        return by_task(self.evaluation)

    @property
    def seconds(self) -> float:
        return self.evaluation.seconds + (self.loaded.seconds if self.loaded is not None else 0.0)

    def __getitem__(self, task: str) -> float | None:
        if task not in self.outcomes:
            raise UsageError(
                "no task has that name",
                seen=repr(task),
                do=nearest(task, self.outcomes, f"known: {', '.join(self.outcomes)}"),
            )
        return self.outcomes[task].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.evaluation.tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantQualities(Mapping[str, Quality]):
    """The same by variant; `results`: each of the others paired with the first."""

    qualities: Mapping[str, Quality]
    results: tuple[QualityResult, ...] = ()

    def __getitem__(self, name: str) -> Quality:
        if name not in self.qualities:
            raise UsageError(
                "no variant has that name",
                seen=repr(name),
                do=nearest(name, self.qualities, f"known: {', '.join(self.qualities)}"),
            )
        return self.qualities[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.qualities)

    def __len__(self) -> int:
        return len(self.qualities)


def by_task(evaluation: Evaluation) -> dict[str, Outcomes]:
    return {outcomes.task: outcomes for outcomes in evaluation.tasks}
