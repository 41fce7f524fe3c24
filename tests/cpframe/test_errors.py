"""The wording helpers of errors."""

import pytest

from cpframe.errors import NotInstalledError, Problem, SpecError, describe_error, nearest, require_extra


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("momentun", ["lr", "momentum"], "did you mean 'momentum'? Known names: 'lr', 'momentum'"),
        ("x", ["b", "a"], "known names: 'a', 'b'"),
        ("x", ["only"], "known names: 'only'"),
        ("x", [], "known names: none"),
    ],
)
def test_nearest_suggests_the_most_similar_name_or_lists_all(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint


def test_problems_are_written_without_their_empty_parts_and_once_each() -> None:
    problem = Problem("a.toml:3", "", "wrong")
    assert str(problem) == "a.toml:3: wrong"
    assert str(SpecError([problem, Problem("a.toml:4", "b.c", "wrong"), problem])) == (
        "a.toml:3: wrong\na.toml:4: b.c: wrong"
    )


def test_a_missing_package_names_its_extra() -> None:
    with (
        pytest.raises(NotInstalledError, match=r"^a table needs nowhere_at_all: pip install 'cpframe\[notebook\]'$"),
        require_extra("a table", "notebook"),
    ):
        import nowhere_at_all.inside  # noqa: F401


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines \x07 \udc80"), "ValueError: two lines ? ? (test_errors.py:"),
        (ValueError(), "ValueError: no message (test_errors.py:"),
    ],
)
def test_an_exception_is_described_in_one_printable_line(error: ValueError, line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - any message
        raise error
    assert describe_error(caught.value).startswith(line)
