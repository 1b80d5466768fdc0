"""Which tasks get which GPUs of one machine, to the last one."""

import pytest

from launch.places import Gpus, Places

FOUR = ("0", "1", "2", "3")


def test_free_gpus_are_given_in_the_order_of_tasks() -> None:
    places = Places(FOUR, most=4)
    assert places.give({"a": 2, "b": 1, "c": 1, "d": 1}, []) == {
        "a": ("0", "1"),
        "b": ("2",),
        "c": ("3",),
    }
    assert places.give({"d": 1}, [("0", "1"), ("3",)]) == {"d": ("2",)}


def test_names_are_handed_on_as_they_are() -> None:
    named = ("GPU-5a", "GPU-17")
    assert Places(named, most=2).give({"a": 2}, []) == {"a": named}


@pytest.mark.parametrize(("most", "started"), [(1, "a"), (2, "ab"), (9, "abc")])
def test_jobs_at_once(most: int, started: str) -> None:
    assert "".join(Places(FOUR, most).give({"a": 1, "b": 1, "c": 1}, [])) == started
    # Processors are shared: only the number counts.
    given = Places((), most).give({"a": 2, "b": 2, "c": 2}, [])
    assert given == dict.fromkeys(started, ())
    assert Places((), most).give({"a": 1}, [()] * most) == {}


def test_a_gpu_that_another_command_uses_is_not_given() -> None:
    places = Places(("2", "3"), most=2)
    assert places.give({"a": 1, "b": 1}, [("3",)]) == {"a": ("2",)}
    assert Places(("2", "3"), most=9).give({"a": 1, "b": 1}, [("5",)]) == {"a": ("2",), "b": ("3",)}


def test_a_large_task_is_not_passed_for_ever() -> None:
    """Small ones, of which there is no end, go on beside what is kept for it."""
    places, running = Places(FOUR, most=4), {"a": ("0",), "b": ("1",)}
    number, order = 0, []
    for ended in ("", "small 0", "small 1", "a", "b"):
        running.pop(ended, None)
        waiting = {"large": 3} | {f"small {n}": 1 for n in range(number, number + 9)}
        started = places.give(waiting, running.values())
        running |= started
        order += started.items()
        number += len(started)
    small = [(f"small {n}", ("3",)) for n in range(3)]
    assert order == [*small, ("large", ("0", "1", "2"))]


def test_no_gpu_idles_beside_two_large_tasks() -> None:
    places = Places(FOUR, most=4)
    running: dict[str, Gpus] = places.give({"x": 3, "y": 3, "s": 1}, [])
    assert running == {"x": ("0", "1", "2"), "s": ("3",)}
    del running["s"]
    assert places.give({"y": 3, "t": 1}, running.values()) == {"t": ("3",)}
    del running["x"]
    assert places.give({"y": 3, "t": 1}, [("3",)]) == {"y": ("0", "1", "2")}
    assert "y" not in places.kept
