"""PyTorch as a peer of `candle-mps bench`. How it is asked and timed: worker.py."""

import sys

import torch

from worker import Call, Lacks, serve

TYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
}


def random(dtype, *sizes):
    return (torch.rand(sizes, dtype=torch.float32) * 2 - 1).to(dtype)


def factor(dtype, *sizes, inner):
    """Leaves the size of what it multiplies as it is."""
    return (random(torch.float32, *sizes) * (3 / inner) ** 0.5).to(dtype)


# Each function takes an element type and sizes and gives a function, its operands, and how many of them
# want a gradient. The first operand is the one that a chain replaces.


def softmax(dtype, rows, width):
    return lambda x: torch.softmax(x, -1), [random(dtype, rows, width)], 1


def log_softmax(dtype, rows, width):
    return lambda x: torch.log_softmax(x, -1), [random(dtype, rows, width)], 1


def rms_norm(dtype, rows, width):
    run = torch.nn.functional.rms_norm
    operands = [random(dtype, rows, width), random(dtype, width)]
    return lambda x, weight: run(x, (width,), weight, 1e-5), operands, 2


def layer_norm(dtype, rows, width):
    run = torch.nn.functional.layer_norm
    operands = [random(dtype, rows, width), random(dtype, width), random(dtype, width)]
    return lambda x, weight, bias: run(x, (width,), weight, bias, 1e-5), operands, 3


def gated(activation):
    def make(dtype, rows, width):
        operands = [random(dtype, rows, width), random(dtype, rows, width)]
        return lambda gate, up: activation(gate) * up, operands, 2

    return make


def cross_entropy(dtype, rows, width):
    targets = torch.randint(width, (rows,))
    run = torch.nn.functional.cross_entropy
    return lambda logits: run(logits, targets), [random(dtype, rows, width)], 1


def matmul(dtype, *sizes):
    *batch, m, k, n = sizes
    return torch.matmul, [random(dtype, *batch, m, k), factor(dtype, *batch, k, n, inner=k)], 2


def linear(dtype, rows, inner, out):
    operands = [random(dtype, rows, inner), factor(dtype, out, inner, inner=inner)]
    return torch.nn.functional.linear, operands, 2


def lora_delta(dtype, rows, width, rank):
    a, b = factor(dtype, width, rank, inner=width), factor(dtype, rank, width, inner=rank) / 2
    return lambda x, a, b: ((x @ a) @ b) * 2, [random(dtype, rows, width), a, b], 3


def lora_with(base):
    """The base weight is frozen."""

    def make(dtype, rows, width, rank):
        w = factor(dtype, width, width, inner=width) / 2
        a, b = factor(dtype, width, rank, inner=width) / 2, factor(dtype, rank, width, inner=rank) / 2
        run = lambda x, a, b, w: torch.add(base(x, w), (x @ a) @ b, alpha=2)
        return run, [random(dtype, rows, width), a, b, w], 3

    return make


def attention(causal):
    def make(dtype, *sizes):
        run = torch.nn.functional.scaled_dot_product_attention
        operands = [random(dtype, *sizes) for _ in range(3)]
        return lambda q, k, v: run(q, k, v, is_causal=causal), operands, 3

    return make


def rope(dtype, batch, heads, length, width):
    """Composed, as models of transformers do."""
    angles = random(dtype, length, width // 2).repeat(1, 2)

    def run(x, cos, sin):
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    return run, [random(dtype, batch, heads, length, width), angles.cos(), angles.sin()], 1


def adamw(dtype, rows, width):
    parameter = torch.nn.Parameter(random(dtype, rows, width))
    parameter.grad = random(dtype, rows, width)
    return torch.optim.AdamW([parameter], lr=1e-3, fused=True).step


class Llama:
    """Layers of width and hidden width 4 x width, heads of 64, without words."""

    def __init__(self, dtype, layers, width, length):
        def weight(*sizes):
            return torch.nn.Parameter(random(dtype, *sizes) * 2 / sizes[-1] ** 0.5)

        hidden = 4 * width
        self.heads = width // 64
        self.layers = [
            {
                "norms": [weight(width), weight(width)],
                "qkvo": [weight(width, width) for _ in range(4)],
                "gate": weight(hidden, width),
                "up": weight(hidden, width),
                "down": weight(width, hidden),
            }
            for _ in range(layers)
        ]
        self.norm = weight(width)
        angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(32) / 32)
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)
        self.x = random(dtype, 1, length, width)

    def parameters(self):
        of = [it["norms"] + it["qkvo"] + [it["gate"], it["up"], it["down"]] for it in self.layers]
        return sum(of, [self.norm])

    def rope(self, x):
        first, second = x.chunk(2, -1)
        turned = [first * self.cos - second * self.sin, second * self.cos + first * self.sin]
        return torch.cat(turned, -1)

    def forward(self):
        functional, x = torch.nn.functional, self.x
        width = x.shape[-1]
        for layer in self.layers:
            normed = functional.rms_norm(x, (width,), layer["norms"][0], 1e-5)
            q, k, v = (
                functional.linear(normed, weight).unflatten(-1, (self.heads, 64)).transpose(1, 2)
                for weight in layer["qkvo"][:3]
            )
            attend = functional.scaled_dot_product_attention
            seen = attend(self.rope(q), self.rope(k), v, is_causal=True)
            x = x + functional.linear(seen.transpose(1, 2).flatten(2), layer["qkvo"][3])
            normed = functional.rms_norm(x, (width,), layer["norms"][1], 1e-5)
            gate, up = (functional.linear(normed, layer[name]) for name in ("gate", "up"))
            x = x + functional.linear(functional.silu(gate) * up, layer["down"])
        return functional.rms_norm(x, (width,), self.norm, 1e-5)

    def loss(self):
        return self.forward().square().mean()


def llama_forward(dtype, *sizes):
    return torch.inference_mode()(Llama(dtype, *sizes).forward)


def llama_backward(dtype, *sizes):
    model = Llama(dtype, *sizes)
    loss, wanted = model.loss(), model.parameters()
    return lambda: torch.autograd.grad(loss, wanted, retain_graph=True)


def llama_step(dtype, *sizes):
    model = Llama(dtype, *sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()

    return step


FUNCTIONS = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "swiglu": gated(torch.nn.functional.silu),
    "geglu": gated(lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
    "cross_entropy": cross_entropy,
    "rope": rope,
    "matmul": matmul,
    "linear": linear,
    "lora_delta": lora_delta,
    "lora": lora_with(torch.matmul),
    "lora_linear": lora_with(torch.nn.functional.linear),
    "attention": attention(False),
    "attention_causal": attention(True),
}

OTHERS = {
    ("adamw", "step"): adamw,
    ("llama", "forward"): llama_forward,
    ("llama", "backward"): llama_backward,
    ("llama", "step"): llama_step,
}


def on_cpu(result):
    """Nothing is put off on the CPU."""


def on_gpu(result):
    """Waits for everything that the GPU was given."""
    torch.mps.synchronize()


def make(question):
    if question["device"] == "cpu":
        return call(question, on_cpu)
    if not torch.backends.mps.is_available():
        raise Lacks("a GPU: torch.backends.mps is not available")
    if question["dtype"] == "f64":
        raise Lacks("f64 on Metal")
    # Operands are made there; a call takes its device from them.
    with torch.device("mps"):
        made = call(question, on_gpu)
    torch.mps.synchronize()
    return made


def call(question, finish):
    op, which, dtype, sizes = (question[name] for name in ("op", "pass", "dtype", "sizes"))
    if dtype == "f16" and op in ("matmul", "linear") and question["device"] == "cpu":
        raise Lacks("f16 products, which are emulated there at seconds a call")
    if (op, which) in OTHERS:
        return Call(OTHERS[op, which](TYPES[dtype], *sizes), [], finish)
    if op not in FUNCTIONS or which == "step":
        raise Lacks(f"{op} {which}")
    run, operands, wanted = FUNCTIONS[op](TYPES[dtype], *sizes)
    if which == "forward":
        return Call(run, operands, finish)
    # The backward alone, from ones: the graph stands, and gradients start from nothing at each call.
    for operand in operands[:wanted]:
        operand.requires_grad_()
    y, grad = run(*operands), torch.autograd.grad
    return Call(lambda: grad(y, operands[:wanted], torch.ones_like(y), retain_graph=True), [], finish)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    serve(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads", make)
