"""The bulkhead."""

from __future__ import annotations

import threading

from repo_builder.client.rules.bulkhead import Bulkhead


def test_a_bulkhead_is_first_come_first_served_and_loses_no_place():
    bulkhead = Bulkhead(concurrency=2, queue=2)
    assert [bulkhead.try_acquire() for _ in range(3)] == [True, True, False]
    order: list[str] = []
    first, second = (lambda: order.append("first")), (lambda: order.append("second"))
    assert bulkhead.enqueue(first)
    assert bulkhead.enqueue(second)
    assert not bulkhead.enqueue(lambda: None), "the queue is full"
    bulkhead.release()
    assert order == ["first"]
    bulkhead.withdraw(second)
    bulkhead.release()
    bulkhead.release()
    assert [bulkhead.try_acquire() for _ in range(3)] == [True, True, False]


def test_a_bulkhead_under_many_threads_never_lets_too_many_in():
    bulkhead, inside, most = Bulkhead(3, 1000), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        for _ in range(100):
            if not bulkhead.try_acquire():
                event = threading.Event()
                assert bulkhead.enqueue(event.set)
                assert event.wait(10)
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1
            bulkhead.release()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 3
    assert [bulkhead.try_acquire() for _ in range(4)] == [True, True, True, False]
