from optimizers.direct_search.credit import LONGEST, Credit


def test_an_arm_that_always_fails_sleeps_no_longer_than_the_longest_wait():
    credit = Credit(("l2", "search"), 0.1)
    for _ in range(2000):  # two to this power is no float any more
        credit.reward("l2", 0.0, 1.0)
    assert credit.waits[0] == LONGEST
