"""What the Python peers share: questions and answers in JSON lines, and the clock.

A question names an op, its sizes, its element type and how many results to time:

    {"op": "softmax", "pass": "forward", "sizes": [128, 1024], "dtype": "f32", "regime": "latency",
     "device": "cpu", "results": 20}

and the answer has the seconds of each result, every one of them there before its clock stopped, and of the call
before them, if it was the first on these operands:

    {"seconds": [...], "cpu_seconds": 0.01, "first": 0.3}

In the regime "chain" a result is the last of sixteen, each computed from the one before. "encode" is asked of Candle's
command buffers: PyTorch commits at other times, and MLX has its scheduling in such a call. What a peer does
not have is answered with {"lacks": "..."}, what fails with {"error": "..."}. The first line it prints by
itself says what it is: {"title": "..."}.
"""

import json
import sys
import time

CHAIN = 16

# Seconds up to which a result notices whether its operands are in the caches.
NOTICED = 0.02


class Lacks(Exception):
    """The peer has no such op, type, pass or regime."""


class Call:
    """An op with its operands. `run` takes them, `finish` waits until a result is really there."""

    def __init__(self, run, operands, finish):
        self.run, self.operands, self.finish = run, operands, finish
        self.last = None

    def once(self):
        return self.run(*self.operands)

    def chain(self):
        first, *others = self.operands
        for _ in range(CHAIN):
            first = self.run(first, *others)
        return first

    def seconds(self, regime):
        """Of a result, until it is there."""
        start = time.perf_counter()
        result = self.chain() if regime == "chain" else self.once()
        self.finish(result)
        # The result is dropped when the clock has stopped, as by a caller who uses it first.
        return time.perf_counter() - start


def timed(call, question):
    regime, first = question["regime"], None
    if regime == "encode":
        raise Lacks("encode, which is of Candle's command buffers")
    # What was asked in between has taken the caches. Results that take long do not notice.
    if call.last is None:
        first = call.seconds(regime)
    elif call.last < NOTICED:
        call.seconds(regime)
    cpu = time.process_time()
    seconds = [call.seconds(regime) for _ in range(question["results"])]
    answer = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}
    call.last = seconds[-1]
    return answer if first is None else answer | {"first": first}


def rest():
    """Waits until the threads of a pool sleep: until then they spin, at the cost of the next peer."""
    for _ in range(500):
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0005:
            return


def serve(title, make):
    """Answers until the questions end. `make(question)` gives a Call or raises Lacks."""
    print(json.dumps({"title": title}), flush=True)
    made_of, made = None, None
    for line in sys.stdin:
        try:
            question = json.loads(line)
            key = {name: value for name, value in question.items() if name != "results"}
            if key != made_of:
                made_of, made = None, None
                made = make(question)
                made_of = key
            answer = timed(made, question)
            rest()
        except Lacks as lacks:
            answer = {"lacks": str(lacks)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)
