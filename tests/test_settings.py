"""Settings: what comes from a recipe is checked, name by name."""

from dataclasses import dataclass

import pytest

from vqcodec.settings import Settings


@dataclass(frozen=True)
class Some(Settings):
    width: int = 8
    rate: float = 0.5
    fast: bool = False
    name: str = "a"
    sizes: tuple[int, ...] = (1, 2)
    shares: tuple[float, ...] = (0.5,)

    def check(self) -> None:
        if self.width < 1:
            raise ValueError("the width is at least 1")


def test_what_differs_from_the_defaults_comes_back() -> None:
    some = Some(width=3, sizes=(4,), shares=(1.0, 0.25))
    assert some.to_dict() == {"width": 3, "sizes": [4], "shares": [1.0, 0.25]}
    assert Some.from_dict(some.to_dict()) == some
    assert Some().to_dict() == {} and Some.from_dict({}) == Some()


def test_an_integer_will_do_for_a_number_but_not_the_other_way() -> None:
    assert Some.from_dict({"rate": 2, "shares": [1, 0.5]}) == Some(rate=2, shares=(1, 0.5))
    with pytest.raises(TypeError, match="width is not an integer"):
        Some.from_dict({"width": 2.0})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": 3}, "no setting 'widht'; 'width' was meant, perhaps"),
        ({"zzz": 3}, "no setting 'zzz'$"),
        ({"width": True}, "width is not an integer"),
        ({"fast": 1}, "fast is not true or false"),
        ({"name": 3}, "name is not a string"),
        ({"sizes": 3}, "sizes is not a list"),
        ({"sizes": [1, "x"]}, "sizes is not an integer"),
    ],
)
def test_unknown_names_and_other_kinds_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Some.from_dict(values)


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Some.from_dict({"width": 0})
