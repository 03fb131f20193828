"""The search for the file that meets a target: of its size at most, or of its quality at least.

It knows numbers alone. Who searches makes a file at each point that it names, and tells it the
measure of that file.
"""

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

    @property
    def hit(self) -> bool:
        """Whether the measure of what was found is within the tolerance."""
        bottom, top = self._window
        return self.found is not None and bottom <= self.measures[self.found] <= top

    def __iter__(self) -> Iterator[int]:
        bottom, top = self._window
        low: int | None = None  # the greatest point known whose measure is too small
        high: int | None = None  # the least whose measure is too large
        point: int | None = self._start
        reach = 1
        while point is not None:
            yield point
            value = self.measures[point]
            if bottom <= value <= top:
                self.found = point
                return
            if value < bottom:
                low = point
            else:
                high = point
            self.found = high if self.at_least else low
            if low is not None and high is not None:
                yield from self._between(low, high)
                return
            away = abs((bottom + top) / 2 - value) / self._slope
            point = self._beyond(point, min(round(max(away, 1) * reach), 1 << 30))
            reach *= 2

    def _beyond(self, point: int, step: int) -> int | None:
        """The next point on the way to the other side; None where there is none."""
        lowest, highest = self._ends
        if self.measures[point] < self._window[0]:
            return min(point + step, highest) if point < highest else None
        return max(point - step, lowest) if point > lowest else None

    def _between(self, low: int, high: int) -> Iterator[int]:
        """Narrows measure(low) < window < measure(high) until one lies in the window.

        Steps by interpolation, and by halving where that does not shrink the bracket fast. Ends
        also where no point is left between the two.
        """
        bottom, top = self._window
        width, halve = high - low, False
        while high - low > 1:
            guess = (low + high) // 2
            if not halve:
                at_low, at_high = self.measures[low], self.measures[high]
                guess = low + round(
                    ((bottom + top) / 2 - at_low) / (at_high - at_low) * (high - low)
                )
            point = min(max(guess, low + 1), high - 1)
            yield point
            value = self.measures[point]
            if bottom <= value <= top:
                self.found = point
                return
            if value < bottom:
                low = point
            else:
                high = point
            self.found = high if self.at_least else low
            halve = high - low > width / 2
            width = high - low
