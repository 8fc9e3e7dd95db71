"""The bulkhead."""

from __future__ import annotations

import threading

from repo_builder.client.rules.bulkhead import Gate


def test_a_gate_is_first_come_first_served_and_loses_no_place():
    gate = Gate(concurrency=2, queue=2)
    assert (gate.enter(), gate.enter(), gate.enter()) == (True, True, False)
    order: list[str] = []
    first, second = (lambda: order.append("first")), (lambda: order.append("second"))
    assert gate.wait(first)
    assert gate.wait(second)
    assert not gate.wait(lambda: None), "the queue is full"
    gate.leave()
    assert order == ["first"]
    gate.give_up(second)
    gate.leave()
    gate.leave()
    assert (gate.enter(), gate.enter(), gate.enter()) == (True, True, False)


def test_a_gate_under_many_threads_never_lets_too_many_in():
    gate, inside, most = Gate(3, 1000), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        for _ in range(100):
            if not gate.enter():
                event = threading.Event()
                assert gate.wait(event.set)
                assert event.wait(10)
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1
            gate.leave()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 3
    assert (gate.enter(), gate.enter(), gate.enter(), gate.enter()) == (True, True, True, False)
