import os
import signal
import threading
from collections.abc import Iterator

import pytest

from aneurysm_assets.runs.deferred_signals import deferred_signals


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Return the interrupts that the program, as it was, has heard of."""
    numbers: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: numbers.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_takes_effect_at_the_end_of_the_block(heard, number) -> None:
    with deferred_signals():
        os.kill(os.getpid(), number)
        assert heard == []
    assert heard == [number]


def test_an_interrupt_after_the_block_is_heard_at_once(heard) -> None:
    with deferred_signals():
        pass
    os.kill(os.getpid(), signal.SIGINT)
    assert heard == [signal.SIGINT]


def test_an_error_of_the_block_is_not_lost_to_an_interrupt(heard) -> None:
    def fail() -> None:
        with deferred_signals():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("theirs")

    with pytest.raises(ValueError, match="theirs"):
        fail()
    assert heard == [signal.SIGINT]


def test_in_another_thread_the_block_is_just_done(heard) -> None:
    done = []

    def work() -> None:
        with deferred_signals():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
