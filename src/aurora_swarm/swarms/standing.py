"""What is known of a worker by the tasks that it had: how often it succeeds, and how fast it is. Pure.

Both are smoothed, so that what was long ago fades. Speed is told beside the crew's: tasks of one kind take one worker
as long as another, tasks of two kinds need not. A worker's cost is the time that an answer of it takes, beside the
crew's time: half as many answers, or answers that take twice as long, make it twice as dear.
"""

from __future__ import annotations

from collections.abc import Collection

SMOOTHING = 0.3
"""Weight of the latest task."""

MOST_SKILLS = 16
"""Skills that a worker's record tells apart; of more, those that it used last."""

_LEAST = 0.05


class Record:
    """How one worker did, at one skill or at all of them.

    Attributes:
        given: Tasks that it was given.
        success: Share of answers, 0 to 1.
        pace: Its time beside the crew's; 1 is as fast as the crew.
    """

    __slots__ = ("given", "pace", "success")

    def __init__(self) -> None:
        self.given = 0
        self.success = 1.0
        self.pace = 1.0

    def note(self, *, ok: bool, pace: float | None) -> None:
        """A task has ended.

        Args:
            ok: Whether there was an answer.
            pace: Its time beside the crew's; None where that says nothing.
        """
        self.given += 1
        self.success += SMOOTHING * (ok - self.success)
        if pace is not None:
            # A first task has nothing before it to be smoothed with.
            self.pace += (1.0 if self.given == 1 else SMOOTHING) * (pace - self.pace)

    @property
    def cost(self) -> float:
        """Time for an answer, beside the crew's."""
        return max(self.pace, _LEAST) / max(self.success, _LEAST)


class Standing:
    """A worker's records: one for all tasks, one for each skill.

    Attributes:
        general: Of all tasks.
        skills: Of each skill, the one used last at the end.
    """

    __slots__ = ("general", "skills")

    def __init__(self) -> None:
        self.general = Record()
        self.skills: dict[str, Record] = {}

    def note(self, skills: Collection[str], *, ok: bool, pace: float | None) -> None:
        """A task has ended that wanted these skills."""
        self.general.note(ok=ok, pace=pace)
        for skill in skills:
            record = self.skills.pop(skill, None) or Record()
            self.skills[skill] = record
            record.note(ok=ok, pace=pace)
        while len(self.skills) > MOST_SKILLS:
            del self.skills[next(iter(self.skills))]

    def cost(self, skills: Collection[str]) -> float:
        """Time for an answer to a task that wants these skills, beside the crew's; by all tasks if none was alike."""
        known = [self.skills[skill].cost for skill in skills if skill in self.skills]
        return sum(known) / len(known) if known else self.general.cost


class Pace:
    """What tasks take the whole crew, by the skills that they want."""

    def __init__(self) -> None:
        self._seconds: dict[frozenset[str], float] = {}

    def beside(self, skills: frozenset[str], seconds: float) -> float | None:
        """A task's time beside what such tasks took so far; None for the first."""
        usual = self._seconds.get(skills)
        return None if not usual else seconds / usual

    def note(self, skills: frozenset[str], seconds: float) -> None:
        """Such a task was done in so many seconds."""
        usual = self._seconds.get(skills)
        # One who is far slower than the rest must not make slowness the usual.
        change = 0.0 if usual is None else SMOOTHING * (min(seconds, 2 * usual) - usual)
        self._seconds[skills] = seconds if usual is None else usual + change

    def usual_s(self, skills: frozenset[str]) -> float:
        """Seconds that such a task takes; 0 when none was done."""
        return self._seconds.get(skills, 0.0)
