"""Ceilings of what pods may take: pod hours and GPU hours, of a run and of a day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vidpipe.config import KubernetesSettings
from vidpipe.errors import CeilingError
from vidpipe.lake.usage import Spent

RUN, DAY = "run", "day"
# What ends a run is never refused: what the run spent would be lost. Nor is what people ask to be
# forgotten, and what removes what is left over.
NEVER_REFUSED = ("audit", "publish", "forget", "maintain")
_WORDS = {
    RUN: (
        "this run spent {}. Later runs take what is left; a run may spend more with a higher {} in"
        " its form or in [kubernetes]"
    ),
    DAY: (
        "all runs together spent {} since midnight (UTC). Wait for the next day, or raise"
        " [kubernetes] {}; then clear this task"
    ),
}


@dataclass(frozen=True)
class Ceilings:
    """As in `[kubernetes]`; 0: none."""

    max_pod_hours_run: float = 0.0
    max_gpu_hours_run: float = 0.0
    max_pod_hours_day: float = 0.0
    max_gpu_hours_day: float = 0.0

    @classmethod
    def of(cls, settings: KubernetesSettings, params: dict[str, Any]) -> Ceilings:
        """Those of a run: what its form asks for comes before what is configured."""
        return cls(
            params.get("max_pod_hours_run") or settings.max_pod_hours_run,
            params.get("max_gpu_hours_run") or settings.max_gpu_hours_run,
            settings.max_pod_hours_day,
            settings.max_gpu_hours_day,
        )

    def concern(self, period: str, gpus: int) -> bool:
        """Whether there is one for a pod, without GPUs or with some."""
        return any(hours for _, _, hours in self._of(period, gpus))

    def require_below(self, period: str, spent: Spent, gpus: int) -> None:
        """Refuses one more pod.

        Args:
            period: `run` or `day`.
            spent: What was spent in it.
            gpus: That the pod is to have; without any the ceilings of GPU hours are none of its.

        Raises:
            CeilingError: A ceiling is reached.
        """
        for kind, name, hours in self._of(period, gpus):
            if hours and getattr(spent, f"{kind.lower()}_hours") >= hours:
                raise CeilingError(
                    f"The ceiling of {hours:g} {kind} hours a {period} is reached:"
                    f" {_WORDS[period].format(spent, name)}."
                )

    def _of(self, period: str, gpus: int) -> list[tuple[str, str, float]]:
        named = [(kind, f"max_{kind.lower()}_hours_{period}") for kind in ("pod", "GPU")]
        return [(kind, name, getattr(self, name)) for kind, name in named[: 2 if gpus else 1]]
