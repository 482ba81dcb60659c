from methods.corp.run import by_priority


def test_the_first_points_combine_the_first_entries_of_every_axis():
    points = by_priority(8, (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), (5.0, 6.0, 7.0))
    assert len(set(points)) == len(points) == 27
    first = points[:8]
    assert set(first) == {(q, b, a) for q in (1.0, 2.0) for b in (10.0, 20.0) for a in (5.0, 6.0)}
    assert [point[:2] for point in first] == sorted(point[:2] for point in first)
