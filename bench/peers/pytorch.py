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


# Each function takes an element type and sizes and gives a call and the tensors that it depends on.


def softmax(dtype, rows, width):
    x = random(dtype, rows, width)
    return lambda: torch.softmax(x, -1), [x]


def log_softmax(dtype, rows, width):
    x = random(dtype, rows, width)
    return lambda: torch.log_softmax(x, -1), [x]


def rms_norm(dtype, rows, width):
    x, weight = random(dtype, rows, width), random(dtype, width)
    return lambda: torch.nn.functional.rms_norm(x, (width,), weight, 1e-5), [x, weight]


def layer_norm(dtype, rows, width):
    x, weight, bias = random(dtype, rows, width), random(dtype, width), random(dtype, width)
    run = torch.nn.functional.layer_norm
    return lambda: run(x, (width,), weight, bias, 1e-5), [x, weight, bias]


def gated(activation):
    def make(dtype, rows, width):
        gate, up = random(dtype, rows, width), random(dtype, rows, width)
        return lambda: activation(gate) * up, [gate, up]

    return make


def cross_entropy(dtype, rows, width):
    logits = random(dtype, rows, width)
    targets = torch.randint(width, (rows,))
    return lambda: torch.nn.functional.cross_entropy(logits, targets), [logits]


def matmul(dtype, m, n, k):
    a, b = random(dtype, m, k), random(dtype, k, n)
    return lambda: a @ b, [a, b]


def batched_matmul(dtype, batch, m, n, k):
    a, b = random(dtype, batch, m, k), random(dtype, batch, k, n)
    return lambda: torch.bmm(a, b), [a, b]


def linear(dtype, rows, inner, outer):
    x, w = random(dtype, rows, inner), random(dtype, outer, inner)
    return lambda: torch.nn.functional.linear(x, w), [x, w]


def lora_delta(dtype, rows, width, rank):
    x, a, b = random(dtype, rows, width), random(dtype, width, rank), random(dtype, rank, width)
    return lambda: ((x @ a) @ b) * 0.5, [x, a, b]


def lora_full(dtype, rows, width, rank):
    """The base weight is frozen."""
    x, w = random(dtype, rows, width), random(dtype, width, width)
    a, b = random(dtype, width, rank), random(dtype, rank, width)
    return lambda: torch.add(x @ w, (x @ a) @ b, alpha=0.5), [x, a, b]


def attention(causal):
    def make(dtype, batch, heads, length, width):
        q, k, v = (random(dtype, batch, heads, length, width) for _ in range(3))
        run = torch.nn.functional.scaled_dot_product_attention
        return lambda: run(q, k, v, is_causal=causal), [q, k, v]

    return make


def adamw(dtype, count):
    parameter = torch.nn.Parameter(random(dtype, count))
    parameter.grad = random(dtype, count)
    optimizer = torch.optim.AdamW([parameter], lr=1e-3, fused=True)
    return optimizer.step, []


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
    return torch.no_grad()(Llama(dtype, *sizes).forward), []


def llama_backward(dtype, *sizes):
    model = Llama(dtype, *sizes)
    loss, wanted = model.loss(), model.parameters()
    return lambda: torch.autograd.grad(loss, wanted, retain_graph=True), []


def llama_optimizer(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def llama_adamw(dtype, *sizes):
    model = Llama(dtype, *sizes)
    model.loss().backward()
    return llama_optimizer(model).step, []


def llama_step(dtype, *sizes):
    model = Llama(dtype, *sizes)
    optimizer = llama_optimizer(model)

    def step():
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()

    return step, []


def backward(make):
    """The backward alone, from ones: the graph stands, and gradients start from nothing at each call."""

    def made(dtype, *sizes):
        call, wanted = make(dtype, *sizes)
        for tensor in wanted:
            tensor.requires_grad_()
        y, grad = call(), torch.autograd.grad
        return lambda: grad(y, wanted, torch.ones_like(y), retain_graph=True), []

    return made


FORWARD = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "swiglu": gated(torch.nn.functional.silu),
    "geglu": gated(lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
    "cross_entropy": cross_entropy,
    "matmul": matmul,
    "batched_matmul": batched_matmul,
    "linear": linear,
    "lora_delta": lora_delta,
    "lora_full": lora_full,
    "attention": attention(False),
    "attention_causal": attention(True),
}

OTHERS = {
    "adamw": adamw,
    "llama_forward": llama_forward,
    "llama_backward": llama_backward,
    "llama_adamw": llama_adamw,
    "llama_step": llama_step,
}

OPS = FORWARD | {f"{op}_backward": backward(make) for op, make in FORWARD.items()} | OTHERS


def timed(request, made):
    """The seconds of each call. The op is made once per set of sizes and warmed up."""
    key = (request["op"], tuple(request["sizes"]), request["dtype"])
    if key not in made:
        made.clear()
        make = OPS[request["op"]]
        made[key], _ = make(TYPES[request["dtype"]], *request["sizes"])
        made[key]()
    call, seconds, cpu = made[key], [], time.process_time()
    call()
    # Results are kept out of the timed region, like a caller who drops them later.
    for _ in range(request["calls"]):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
        del result
    cpu = time.process_time() - cpu
    rest()
    return {"seconds": seconds, "cpu_seconds": cpu}


def rest():
    """Waits until the threads of the pool sleep: until then they spin, at the cost of the next peer."""
    while True:
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0005:
            return


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
