"""The search for the file that meets a target: of its size at most, or of its quality at least.

It knows numbers alone. Who searches makes a file at each point that it names, and tells it the
measure of that file.
"""

import math
from collections.abc import Iterator


class Search:
    """Points to try, one after the other, until one of them is ``found``.

        for point in search:
            search.measures[point] = ...  # of the file at that point

    Measures grow with the point. Of those that meet the target the one nearest to it is found: the
    least where the measure is to be at least the target, or else the greatest. ``found`` stays None
    where there is none; then the measure of that end is known which is nearest to the target.
    """

    def __init__(
        self,
        lowest: int,
        highest: int,
        target: float,
        tolerance: float,
        *,
        at_least: bool,
        start: int,
        slope: float,
    ) -> None:
        """A measure within ``tolerance`` of the target ends it.

        start: the point to begin with. slope: by how much, about, a measure grows from one point
        to the next; it is relied on until there are points on both sides of the target.
        """
        self.found: int | None = None
        self.measures: dict[int, float] = {}
        self.at_least = at_least
        self._ends = lowest, highest
        self._start, self._slope = min(max(start, lowest), highest), slope
        self._window = (target, target + tolerance) if at_least else (target - tolerance, target)
        self._low: int | None = None  # the greatest point known whose measure is too small
        self._high: int | None = None  # the least whose measure is too large
        self._reach = 1  # doubles with each step that does not get to the other side
        self._width = math.inf  # of the bracket before

    @property
    def hit(self) -> bool:
        """Whether the measure of what was found is within the tolerance."""
        bottom, top = self._window
        return self.found is not None and bottom <= self.measures[self.found] <= top

    def near(self) -> tuple[int, float]:
        """After the search: the last point, and by how much measures grow there from one point to
        the next."""
        (*_, last), slope = self.measures, self._slope
        if len(self.measures) > 1:
            other = min((p for p in self.measures if p != last), key=lambda p: abs(p - last))
            grown = (self.measures[other] - self.measures[last]) / (other - last)
            if 0 < grown < math.inf:
                slope = grown
        return last, slope

    def __iter__(self) -> Iterator[int]:
        point: int | None = self._start
        while point is not None:
            yield point
            value = self.measures[point]
            bottom, top = self._window
            if bottom <= value <= top:
                self.found = point
                return
            if value < bottom:
                self._low = point
            else:
                self._high = point
            self.found = self._high if self.at_least else self._low
            if self._low is None or self._high is None:
                point = self._beyond(point, value)
            else:
                point = self._between(self._low, self._high)

    def _beyond(self, point: int, value: float) -> int | None:
        """The next point on the way to the other side of the target; None where there is none."""
        (bottom, top), (lowest, highest) = self._window, self._ends
        away = abs((bottom + top) / 2 - value) / self._slope
        step = round(min(max(away, 1) * self._reach, 1 << 30))  # a measure may be infinite
        self._reach *= 2
        if value < bottom:
            return min(point + step, highest) if point < highest else None
        return max(point - step, lowest) if point > lowest else None

    def _between(self, low: int, high: int) -> int | None:
        """The next point between two on both sides of the target; None where none is left.

        It is found by interpolation, or by halving where that did not shrink the bracket fast.
        """
        width = high - low
        halve, self._width = width > self._width / 2, width
        if width < 2:
            return None
        guess = (low + high) // 2
        if not halve:
            (bottom, top), at_low = self._window, self.measures[low]
            guess = low + round(
                ((bottom + top) / 2 - at_low) / (self.measures[high] - at_low) * width
            )
        return min(max(guess, low + 1), high - 1)
