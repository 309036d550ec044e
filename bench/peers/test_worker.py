"""What the Python peers share, without a framework: `python3 -m unittest` in this folder. The clock is one that only
work and sleep move, so that a busy machine changes nothing."""

import unittest
from unittest import mock

from worker import CHAIN, Call, Lacks, rest, timed

WORK = 3.0


class Clock:
    """In the place of the module `time`."""

    def __init__(self, busy=0.0):
        # Part of the time for which the processor computes while this thread sleeps.
        self.now, self.cpu, self.busy = 0.0, 0.0, busy

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.cpu

    def sleep(self, seconds):
        self.now += seconds
        self.cpu += self.busy * seconds


def question(regime, device="metal", results=3):
    return {"regime": regime, "device": device, "results": results}


class Gpu:
    """Takes work at once and does it when it is waited for."""

    def __init__(self, clock):
        self.clock, self.waiting, self.most = clock, 0, 0

    def run(self, x):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return x + 1

    def finish(self, result):
        self.clock.sleep(WORK * self.waiting)
        self.waiting = 0


class Timed(unittest.TestCase):
    def setUp(self):
        self.clock = Clock()
        patched = mock.patch("worker.time", self.clock)
        patched.start()
        self.addCleanup(patched.stop)
        self.gpu = Gpu(self.clock)
        self.call = Call(self.gpu.run, [0], self.gpu.finish)

    def test_results_are_there_before_the_clock_stops(self):
        self.assertEqual(timed(self.call, question("latency"))["seconds"], [WORK] * 3)
        self.assertEqual((self.gpu.waiting, self.gpu.most), (0, 1))

    def test_a_chain_is_finished_as_a_whole(self):
        self.assertEqual(timed(self.call, question("chain", results=1))["seconds"], [CHAIN * WORK])

    def test_encode_is_not_of_these_peers(self):
        for device in ("cpu", "metal"):
            with self.assertRaises(Lacks):
                timed(self.call, question("encode", device))
        self.assertEqual(self.gpu.most, 0)

    def test_the_first_call_is_told_apart(self):
        self.assertEqual(timed(self.call, question("latency"))["first"], WORK)
        self.assertNotIn("first", timed(self.call, question("latency")))

    def test_a_pool_that_sleeps_is_not_waited_for(self):
        rest()
        asleep = self.clock.now
        self.clock.busy = 1.0
        rest()
        self.assertGreater(self.clock.now, 10 * asleep)


if __name__ == "__main__":
    unittest.main()
