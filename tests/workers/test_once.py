"""A value that a batch asks for once is asked for by its own thread: no other waits for it."""

import threading

from workers.once import once


class Slow:
    def __init__(self, go_on: threading.Event) -> None:
        self.go_on = go_on
        self.asked = 0

    @once
    def answer(self) -> int:
        self.asked += 1
        assert self.go_on.wait(60)
        return self.asked


def test_one_thread_that_waits_for_its_answer_holds_up_no_other() -> None:
    held, free = Slow(threading.Event()), Slow(threading.Event())
    free.go_on.set()
    waiting = threading.Thread(target=lambda: held.answer)
    waiting.start()
    try:
        asking = threading.Thread(target=lambda: free.answer, daemon=True)
        asking.start()
        asking.join(30)
        assert not asking.is_alive(), "it waits for the other object's answer"
    finally:
        held.go_on.set()
        waiting.join()

    assert (free.answer, free.asked) == (1, 1)
