"""Order lines as values, and the collection of them that a product asks."""

from allocation.domain.model import Lines, OrderLine


def test_lines_that_say_the_same_are_equal() -> None:
    line = OrderLine("order-1", "RED-CHAIR", 5)
    assert line == OrderLine("order-1", "RED-CHAIR", 5)
    assert line != OrderLine("order-1", "RED-CHAIR", 6)
    assert line != OrderLine("order-2", "RED-CHAIR", 5)
    assert len({line, OrderLine("order-1", "RED-CHAIR", 5)}) == 1


def test_where_a_line_is_and_how_old_it_is_do_not_count_for_equality() -> None:
    assert OrderLine("order-1", "RED-CHAIR", 5, "batch-1", 7) == OrderLine("order-1", "RED-CHAIR", 5)


def lines(*given: OrderLine) -> Lines:
    return Lines({line.orderid: line for line in given})


def test_the_newest_lines_on_a_batch_come_first_and_others_not_at_all() -> None:
    collection = lines(
        OrderLine("old", "LAMP", 1, "b1", since=2),
        OrderLine("elsewhere", "LAMP", 1, "b2", since=9),
        OrderLine("new", "LAMP", 1, "b1", since=8),
        OrderLine("waiting", "LAMP", 1, None, since=10),
        OrderLine("between", "LAMP", 1, "b1", since=5),
    )
    assert [line.orderid for line in collection.newest_on("b1")] == ["new", "between", "old"]


def test_the_oldest_waiting_lines_come_first_and_those_on_a_batch_not_at_all() -> None:
    collection = lines(
        OrderLine("new", "LAMP", 1, since=9),
        OrderLine("placed", "LAMP", 1, "b1", since=1),
        OrderLine("old", "LAMP", 1, since=3),
    )
    assert [line.orderid for line in collection.oldest_waiting(lambda: 10)] == ["old", "new"]


def test_waiting_lines_that_are_too_large_are_passed_over() -> None:
    collection = lines(OrderLine("large", "LAMP", 11, since=1), OrderLine("fits", "LAMP", 10, since=2))
    assert [line.orderid for line in collection.oldest_waiting(lambda: 10)] == ["fits"]


def test_what_counts_is_the_free_quantity_when_a_lines_turn_comes() -> None:
    collection = lines(*(OrderLine(f"order-{n}", "LAMP", 4, since=n) for n in range(1, 5)))
    free = [10]
    served = []
    for line in collection.oldest_waiting(lambda: free[-1]):
        free.append(free[-1] - line.qty)
        served.append(line.orderid)
    assert (served, free) == (["order-1", "order-2"], [10, 6, 2])


def test_what_is_free_is_asked_once_and_again_for_each_line_that_is_given() -> None:
    """It is the most of all batches: asked for each line that waits, one command would cost lines times batches."""
    collection = lines(*(OrderLine(f"order-{n}", "LAMP", 4, since=n) for n in range(1, 100)))
    free = [10]
    asked = []

    def at_most() -> int:
        asked.append(free[-1])
        return free[-1]

    for line in collection.oldest_waiting(at_most):
        free.append(free[-1] - line.qty)
    assert asked == [10, 6, 2]
