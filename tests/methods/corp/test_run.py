from methods.corp.run import by_priority


def test_priority_keeps_first_entries_of_every_axis():
    cells = by_priority(8, (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), (5.0, 6.0, 7.0))
    assert len(set(cells)) == len(cells) == 27
    first = cells[:8]
    assert set(first) == {(q, b, a) for q in (1.0, 2.0) for b in (10.0, 20.0) for a in (5.0, 6.0)}
    assert [prepared[:2] for prepared in first] == sorted(prepared[:2] for prepared in first)
