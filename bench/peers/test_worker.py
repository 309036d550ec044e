"""What the Python peers share, without a framework: `python3 -m unittest` in this folder."""

import time
import unittest

from worker import CHAIN, Call, Lacks, timed

# Long enough to be told from nothing.
WORK = 0.003


def question(regime, device="metal", results=3):
    return {"regime": regime, "device": device, "results": results}


class Gpu:
    """Takes work at once and does it when it is waited for."""

    def __init__(self):
        self.waiting, self.handed_over, self.most = 0, 0, 0

    def run(self, x):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return x + 1

    def hand_over(self, result):
        self.handed_over += 1

    def finish(self, result):
        time.sleep(WORK * self.waiting)
        self.waiting = 0

    def call(self):
        return Call(self.run, [0], self.finish, self.hand_over)


class Timed(unittest.TestCase):
    def test_results_are_there_before_the_clock_stops(self):
        answer = timed(Gpu().call(), question("latency"))
        self.assertEqual(len(answer["seconds"]), 3)
        self.assertTrue(all(seconds >= WORK for seconds in answer["seconds"]))
        chain = timed(Gpu().call(), question("chain", results=1))
        self.assertGreaterEqual(chain["seconds"][0], CHAIN * WORK)

    def test_encode_stops_when_the_work_is_handed_over_and_leaves_none(self):
        gpu = Gpu()
        answer = timed(gpu.call(), question("encode"))
        self.assertTrue(all(seconds < WORK for seconds in answer["seconds"]))
        self.assertEqual((gpu.handed_over, gpu.waiting, gpu.most), (4, 0, 1))

    def test_encode_is_of_a_gpu(self):
        with self.assertRaises(Lacks):
            timed(Gpu().call(), question("encode", device="cpu"))

    def test_the_first_call_is_told_apart(self):
        call = Gpu().call()
        self.assertIn("first", timed(call, question("latency")))
        self.assertNotIn("first", timed(call, question("latency")))


if __name__ == "__main__":
    unittest.main()
