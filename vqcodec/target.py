"""The search for the rate point whose file meets a target: of its size at most, or of its quality.

It knows numbers alone. Who searches makes a file at each rate point that it names, and tells it the
measure of that file.
"""

from collections.abc import Iterator


class Search:
    """Rate points to try, one after the other, until one of them is ``found``.

        for index in search:
            search.measures[index] = ...  # of the file at that rate point

    Measures grow with the rate point. Of those that meet the target the one nearest to it is found:
    the least where the measure is to be at least the target, or else the greatest. ``found`` stays
    None where there is none.
    """

    def __init__(
        self, lowest: int, highest: int, target: float, tolerance: float, *, at_least: bool
    ) -> None:
        """lowest, highest: rate points. A measure within ``tolerance`` of the target ends it."""
        self.found: int | None = None
        self.measures: dict[int, float] = {}
        self.target, self.at_least = target, at_least
        self._ends = lowest, highest
        self._window = (target, target + tolerance) if at_least else (target - tolerance, target)

    def __iter__(self) -> Iterator[int]:
        low, high = self._ends
        most, least = (high, low) if self.at_least else (low, high)
        yield most  # if this does not meet the target, nothing does
        if not self._met_by(most):
            return
        self.found = most
        yield least  # if this does, there is none nearer
        if self._met_by(least):
            self.found = least
            return
        yield from self._between(low, high)

    def _met_by(self, index: int) -> bool:
        value = self.measures[index]
        return value >= self.target if self.at_least else value <= self.target

    def _between(self, low: int, high: int) -> Iterator[int]:
        """Narrows measure(low) < window < measure(high) until one lies in the window.

        Steps by interpolation, and by halving where that does not shrink the bracket fast. Ends
        also where no rate point is left between the two.
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
            index = min(max(guess, low + 1), high - 1)
            yield index
            value = self.measures[index]
            if bottom <= value <= top:
                self.found = index
                return
            if value < bottom:
                low = index
            else:
                high = index
            self.found = high if self.at_least else low
            halve = high - low > width / 2
            width = high - low
