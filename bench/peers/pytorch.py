"""PyTorch as a peer: a worker that times one op at a time, asked and answered in JSON lines.

A request names an op, its sizes, its element type and how many calls to time:

    {"op": "softmax", "sizes": [128, 1024], "dtype": "f32", "calls": 20}

and the answer has the seconds of each call, every one of them finished inside its timed region:

    {"seconds": [...], "cpu_seconds": 0.01}

An op or a type that the worker does not know is answered with {"error": "..."}. The first line it
prints by itself says what it is: {"peer": "PyTorch", "version": "...", "threads": 2}.
"""

import json
import sys
import time

import torch

TYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
}


def random(dtype, *sizes):
    return (torch.rand(sizes, dtype=torch.float32) - 0.5).to(dtype)


def forward_of_rows(op):
    def make(dtype, rows, width):
        x, weight, bias = random(dtype, rows, width), random(dtype, width), random(dtype, width)
        calls = {
            "softmax": lambda: torch.softmax(x, -1),
            "log_softmax": lambda: torch.log_softmax(x, -1),
            "rms_norm": lambda: torch.nn.functional.rms_norm(x, (width,), weight, 1e-5),
            "layer_norm": lambda: torch.nn.functional.layer_norm(x, (width,), weight, bias, 1e-5),
        }
        return calls[op]

    return make


def backward_of_rows(op):
    """The backward alone: the graph stands, and gradients start from nothing at each call."""

    def make(dtype, rows, width):
        x = random(dtype, rows, width).requires_grad_()
        weight = random(dtype, width).requires_grad_()
        bias = random(dtype, width).requires_grad_()
        y = {
            "softmax": lambda: torch.softmax(x, -1),
            "rms_norm": lambda: torch.nn.functional.rms_norm(x, (width,), weight, 1e-5),
            "layer_norm": lambda: torch.nn.functional.layer_norm(x, (width,), weight, bias, 1e-5),
        }[op]()
        gradient = random(dtype, rows, width)
        wanted = {"softmax": [x], "rms_norm": [x, weight], "layer_norm": [x, weight, bias]}[op]
        return lambda: torch.autograd.grad(y, wanted, gradient, retain_graph=True)

    return make


def swiglu(dtype, rows, width):
    gate, up = random(dtype, rows, width), random(dtype, rows, width)
    return lambda: torch.nn.functional.silu(gate) * up


def cross_entropy(dtype, rows, width):
    logits = random(dtype, rows, width)
    targets = torch.randint(width, (rows,))
    return lambda: torch.nn.functional.cross_entropy(logits, targets)


def matmul(dtype, m, n, k):
    a, b = random(dtype, m, k), random(dtype, k, n)
    return lambda: a @ b


def batched_matmul(dtype, batch, m, n, k):
    a, b = random(dtype, batch, m, k), random(dtype, batch, k, n)
    return lambda: torch.bmm(a, b)


def lora_delta(dtype, rows, width, rank):
    x, a, b = random(dtype, rows, width), random(dtype, width, rank), random(dtype, rank, width)
    return lambda: ((x @ a) @ b) * 0.5


def lora_full(dtype, rows, width, rank):
    x, w = random(dtype, rows, width), random(dtype, width, width)
    a, b = random(dtype, width, rank), random(dtype, rank, width)
    return lambda: torch.add(x @ w, (x @ a) @ b, alpha=0.5)


def attention(causal):
    def make(dtype, batch, heads, length, width):
        q, k, v = (random(dtype, batch, heads, length, width) for _ in range(3))
        run = torch.nn.functional.scaled_dot_product_attention
        return lambda: run(q, k, v, is_causal=causal)

    return make


def adamw(dtype, count):
    parameter = torch.nn.Parameter(random(dtype, count))
    parameter.grad = random(dtype, count)
    optimizer = torch.optim.AdamW([parameter], lr=1e-3, fused=True)
    return optimizer.step


OPS = {
    **{op: forward_of_rows(op) for op in ("softmax", "log_softmax", "rms_norm", "layer_norm")},
    **{f"{op}_backward": backward_of_rows(op) for op in ("softmax", "rms_norm", "layer_norm")},
    "swiglu": swiglu,
    "cross_entropy": cross_entropy,
    "matmul": matmul,
    "batched_matmul": batched_matmul,
    "lora_delta": lora_delta,
    "lora_full": lora_full,
    "attention": attention(False),
    "attention_causal": attention(True),
    "adamw": adamw,
}


def timed(request, made):
    """The seconds of each call. The op is made once per set of sizes and warmed up."""
    key = (request["op"], tuple(request["sizes"]), request["dtype"])
    if key not in made:
        made.clear()
        make = OPS[request["op"]]
        made[key] = make(TYPES[request["dtype"]], *request["sizes"])
        made[key]()
    call, seconds, cpu = made[key], [], time.process_time()
    # Results are kept out of the timed region, like a caller who drops them later.
    for _ in range(request["calls"]):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
        del result
    return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}


def main():
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    told = {"peer": "PyTorch", "version": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps(told), flush=True)
    made = {}
    for line in sys.stdin:
        try:
            request = json.loads(line)
            answer = timed(request, made)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
