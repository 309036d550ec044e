"""MLX as a peer of `candle-mps bench`. How it is asked and timed: worker.py.

MLX is lazy: a call makes a node, and nothing is computed until somebody asks for its value. So each result
is evaluated before its clock stops. A loop that evaluates once, after it, measures the making of nodes.
"""

import math
import sys

import mlx.core as mx

from worker import Call, Lacks, serve

TYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}


def random(dtype, *sizes):
    return mx.random.uniform(-1, 1, sizes).astype(dtype)


def factor(dtype, *sizes, inner):
    """Leaves the size of what it multiplies as it is."""
    return (mx.random.uniform(-1, 1, sizes) * math.sqrt(3 / inner)).astype(dtype)


# Each function takes an element type and sizes and gives a function, its operands, and how many of them
# want a gradient. The first operand is the one that a chain replaces.


def softmax(dtype, rows, width):
    return lambda x: mx.softmax(x, axis=-1), [random(dtype, rows, width)], 1


def log_softmax(dtype, rows, width):
    run = lambda x: x - mx.logsumexp(x, axis=-1, keepdims=True)
    return run, [random(dtype, rows, width)], 1


def rms_norm(dtype, rows, width):
    run = lambda x, weight: mx.fast.rms_norm(x, weight, 1e-5)
    return run, [random(dtype, rows, width), random(dtype, width)], 2


def layer_norm(dtype, rows, width):
    run = lambda x, weight, bias: mx.fast.layer_norm(x, weight, bias, 1e-5)
    return run, [random(dtype, rows, width), random(dtype, width), random(dtype, width)], 3


def swiglu(dtype, rows, width):
    run = lambda gate, up: gate * mx.sigmoid(gate) * up
    return run, [random(dtype, rows, width), random(dtype, rows, width)], 2


def cross_entropy(dtype, rows, width):
    targets = mx.random.randint(0, width, (rows, 1))

    def run(logits):
        chosen = mx.take_along_axis(logits, targets, axis=-1)
        return mx.mean(mx.logsumexp(logits, axis=-1) - chosen[:, 0])

    return run, [random(dtype, rows, width)], 1


def matmul(dtype, *sizes):
    *batch, m, k, n = sizes
    return mx.matmul, [random(dtype, *batch, m, k), factor(dtype, *batch, k, n, inner=k)], 2


def linear(dtype, rows, inner, out):
    return lambda x, w: x @ w.T, [random(dtype, rows, inner), factor(dtype, out, inner, inner=inner)], 2


def lora_delta(dtype, rows, width, rank):
    a, b = factor(dtype, width, rank, inner=width), factor(dtype, rank, width, inner=rank) / 2
    return lambda x, a, b: ((x @ a) @ b) * 2, [random(dtype, rows, width), a, b], 3


def lora_with(base):
    """The base weight is frozen."""

    def make(dtype, rows, width, rank):
        w = factor(dtype, width, width, inner=width) / 2
        a, b = factor(dtype, width, rank, inner=width) / 2, factor(dtype, rank, width, inner=rank) / 2
        run = lambda x, a, b, w: base(x, w) + ((x @ a) @ b) * 2
        return run, [random(dtype, rows, width), a, b, w], 3

    return make


def attention(dtype, *sizes):
    run = mx.fast.scaled_dot_product_attention
    operands = [random(dtype, *sizes) for _ in range(3)]
    return lambda q, k, v: run(q, k, v, scale=1 / math.sqrt(sizes[-1])), operands, 3


def attention_causal(dtype, *sizes):
    run = mx.fast.scaled_dot_product_attention
    operands = [random(dtype, *sizes) for _ in range(3)]
    return lambda q, k, v: run(q, k, v, scale=1 / math.sqrt(sizes[-1]), mask="causal"), operands, 3


def rope(dtype, batch, heads, length, width):
    run = lambda x: mx.fast.rope(x, width, traditional=False, base=10000, scale=1, offset=0)
    return run, [random(dtype, batch, heads, length, width)], 1


FUNCTIONS = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "swiglu": swiglu,
    "cross_entropy": cross_entropy,
    "rope": rope,
    "matmul": matmul,
    "linear": linear,
    "lora_delta": lora_delta,
    "lora": lora_with(mx.matmul),
    "lora_linear": lora_with(lambda x, w: x @ w.T),
    "attention": attention,
    "attention_causal": attention_causal,
}


def make(question):
    if question["device"] == "metal" and not mx.metal.is_available():
        raise Lacks("a GPU: mlx.core.metal is not available")
    # Calls go to the default device, and there is one question at a time.
    mx.set_default_device(mx.gpu if question["device"] == "metal" else mx.cpu)
    op, which, dtype, sizes = (question[name] for name in ("op", "pass", "dtype", "sizes"))
    if op not in FUNCTIONS or which == "step":
        raise Lacks(f"{op} {which}")
    if dtype not in TYPES:
        raise Lacks(dtype)
    run, operands, wanted = FUNCTIONS[op](TYPES[dtype], *sizes)
    mx.eval(operands)
    if which == "forward":
        return Call(run, operands, mx.eval)
    # MLX has no graph that stands: its gradient computes the result again.
    grads = mx.grad(lambda *operands: run(*operands).sum(), argnums=list(range(wanted)))
    return Call(grads, operands, mx.eval)


if __name__ == "__main__":
    mx.random.seed(0)
    serve(f"MLX {mx.__version__}", make)
