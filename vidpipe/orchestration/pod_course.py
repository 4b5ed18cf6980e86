"""What follows when the pod of a stage has ended: another pod within the same try, or the end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from vidpipe.orchestration.pod_end import LOST, OUT_OF_MEMORY, PodEnd
from vidpipe.orchestration.resources import Resources
from vidpipe.stages.working import ALONE, TOO_LARGE


@dataclass(frozen=True)
class Course:
    """What became of the pods of one try so far.

    Attributes:
        until: When the try ends (ISO time).
        code_version: Under which its work is known; empty: an older version of this code began it,
            which noted none.
        pod: The pod that is waited for, or the Job of several.
        workers: How many they are.
        lost: How many were lost.
        memory: What the next gets; empty: as configured.
        alone: Whether the next works on one item at a time.
        out_of_memory: Numbers of items that take more than there is, each by itself.
    """

    until: str
    code_version: str = ""
    pod: str = ""
    workers: int = 1
    lost: int = 0
    memory: str = ""
    alone: bool = False
    out_of_memory: list[int] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What the stage is told of it."""
        told = {"VIDPIPE_CODE_VERSION": self.code_version} if self.code_version else {}
        if self.alone:
            told[ALONE] = "1"
        if self.out_of_memory:
            told[TOO_LARGE] = ",".join(map(str, self.out_of_memory))
        return told

    def after(self, end: PodEnd, resources: Resources, max_lost: int) -> tuple[Course, str] | None:
        """How it goes on.

        Args:
            end: How the pod ended.
            resources: What it had.
            max_lost: So many lost pods are replaced.

        Returns:
            The next course and why, in words; None where no other pod is to be started.
        """
        if end.kind == LOST and self.lost < max_lost:
            again = dataclasses.replace(self, lost=self.lost + 1)
            return (
                again,
                f"Its pod was lost ({end.told}): started again, {again.lost} of {max_lost}.",
            )
        if end.kind != OUT_OF_MEMORY:
            return None
        if more := resources.doubled():
            gib = int(more.memory) / 2**30
            why = f"Its memory of {resources.memory} ran out: started again with {gib:g} GiB."
            return dataclasses.replace(self, memory=more.memory), why
        return self.without_what_is_too_large(end, str(resources.memory))

    def without_what_is_too_large(self, end: PodEnd, memory: str) -> tuple[Course, str] | None:
        """How it goes on with no more memory: one item at a time, then without the one.

        Args:
            end: Of a process or pod whose memory ran out.
            memory: So much it had.
        """
        match end.working:
            case [number]:
                again = dataclasses.replace(self, out_of_memory=[*self.out_of_memory, number])
                return again, f"Item {number} alone takes more than {memory}: without it."
            case [_, *_] if not self.alone:
                why = f"Its memory of {memory} ran out: one item at a time."
                return dataclasses.replace(self, alone=True), why
        return None
