"""What the Python peers share: questions and answers in JSON lines, and the clock.

A question names an op, its sizes, its element type and how many results to time:

    {"op": "softmax", "pass": "forward", "sizes": [128, 1024], "dtype": "f32", "regime": "latency", "results": 20}

and the answer has the seconds of each result, every one of them there before its clock stopped:

    {"seconds": [...], "cpu_seconds": 0.01}

In the regime "chain" a result is the last of sixteen, each computed from the one before. What a peer does
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
        self.last = 0

    def once(self):
        result = self.run(*self.operands)
        self.finish(result)
        return result

    def chain(self):
        first, *others = self.operands
        for _ in range(CHAIN):
            first = self.run(first, *others)
        self.finish(first)
        return first


def timed(call, question):
    result_of = call.chain if question["regime"] == "chain" else call.once
    # What was asked in between has taken the caches. Results that take long do not notice.
    if call.last < NOTICED:
        result_of()
    seconds, cpu = [], time.process_time()
    for _ in range(question["results"]):
        start = time.perf_counter()
        result = result_of()
        seconds.append(time.perf_counter() - start)
        # Results are dropped outside the timed region, like a caller who uses them first.
        del result
    call.last = seconds[-1]
    return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}


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
