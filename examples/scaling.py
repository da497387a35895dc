"""How long compiling takes against the number of nodes: writes docs/scaling.md.  python examples/scaling.py [largest]

python examples/scaling.py torch NETWORK COUNT      compiles one network as a torch module
"""

import operator
import os
import subprocess
import sys
from functools import reduce
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
COUNTS = (100, 1000, 10_000)
UNUSUAL = 1000
"""Nodes of a network of a form that nobody trains."""
REPC = {
    "compile": ["{source}", "-o", "{plain}", "--no-verify"],
    "and verify, explain, report": ["{source}", "-o", "{plain}", "--explain", "--report", "{page}"],
    "`repc verify`": ["verify", "{source}", "{plain}"],
    "`repc diff`": ["diff", "{source}", "{plain}", "-o", "{text}", "--no-verify"],
}
TORCH = "torch: compile and verify"
PAGE = """# Time against the number of nodes

`make scaling` writes this page: seconds of CPU on one thread, start-up and reading included, on networks that are deep or wide;
in brackets milliseconds a node. All but the last column are `repc` on an ONNX file; the last is `repcompiler.compile` of the
same network as a torch module.

{tables}
Planning looks 64 steps to either side along a chain (`repcompiler.chain.STRETCH`), branches of one form merge at once
(`repcompiler.joins.MANY`), new weights are told apart by a hash, and inference is asked about a message without weights: each
was quadratic before. [tests/test_linear_time.py](../tests/test_linear_time.py) counts calls, so that none comes back.
"""


class Network:
    """Nodes and weights of four channels, one after the other: values neither vanish nor grow, however many there are."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes, self.weights = [], []

    def weight(self, *shape):
        return self.tensor(self.rng.uniform(0.8, 1.2, shape))

    def tensor(self, array):
        self.weights.append(numpy_helper.from_array(array.astype("f"), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def node(self, kind, *inputs, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def conv(self, x, size=3):
        kernel = 0.02 * self.rng.standard_normal((4, 4, size, size))
        if size == 1:
            kernel = np.linalg.qr(kernel[..., 0, 0])[0][..., None, None]
        return self.node("Conv", x, self.tensor(kernel), pads=[size // 2] * 4)

    def batch_norm(self, x):
        return self.node("BatchNormalization", x, *(self.weight(4) for _ in range(4)))

    def model(self, y):
        value = helper.make_tensor_value_info
        ends = [value("x", TensorProto.FLOAT, [1, 4, 6, 5])], [value(y, TensorProto.FLOAT, ["n", "c", "h", "w"])]
        graph = helper.make_graph(self.nodes, "network", *ends, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class TorchNetwork:
    """The same interface, for a torch.fx module."""

    def __init__(self):
        import torch

        torch.manual_seed(0)
        self.torch, self.root, self.graph = torch, torch.nn.Module(), torch.fx.Graph()
        self.values = {"x": self.graph.placeholder("x")}

    def _add(self, value):
        self.values[value.name] = value
        return value.name

    def _module(self, module, x):
        name = f"m{len(self.values)}"
        self.root.add_module(name, module)
        return self._add(self.graph.call_module(name, (self.values[x],)))

    def weight(self, *shape):
        name = f"w{len(self.values)}"
        self.root.register_parameter(name, self.torch.nn.Parameter(0.8 + 0.4 * self.torch.rand(shape)))
        return self._add(self.graph.get_attr(name))

    def node(self, kind, *inputs, **attributes):
        values = [self.values[name] for name in inputs]
        if kind == "Relu":
            return self._add(self.graph.call_function(self.torch.relu, (*values,)))
        if kind == "Concat":
            return self._add(self.graph.call_function(self.torch.cat, (values, attributes["axis"])))
        function = operator.mul if kind == "Mul" else operator.add
        return self._add(reduce(lambda total, value: self.graph.call_function(function, (total, value)), values))

    def conv(self, x, size=3):
        conv = self.torch.nn.Conv2d(4, 4, size, padding=size // 2, bias=False)
        if size == 1:
            self.torch.nn.init.orthogonal_(conv.weight)
        else:
            self.torch.nn.init.normal_(conv.weight, std=0.02)
        return self._module(conv, x)

    def batch_norm(self, x):
        norm = self.torch.nn.BatchNorm2d(4)
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            self.torch.nn.init.uniform_(tensor, 0.8, 1.2)
        return self._module(norm, x)

    def model(self, y):
        self.graph.output(self.values[y])
        return self.torch.fx.GraphModule(self.root, self.graph).eval()


def conv_bn_relu(net, count):
    x = "x"
    for _ in range(count // 3):
        x = net.node("Relu", net.batch_norm(net.conv(x)))
    return x


def linear(net, count):
    x = "x"
    for _ in range(count // 2):
        x = net.node("Mul", net.conv(x, 1), net.weight(4, 1, 1))
    return x


def residual(net, count):
    x = net.node("Relu", "x")
    for _ in range(count // 5):
        x = net.node("Relu", net.node("Add", net.conv(net.node("Relu", net.conv(x))), x))
    return x


def wide_sum(net, count):
    return net.node("Sum", *(net.conv("x", 1) for _ in range(count - 1)))


def wide_concat(net, count):
    return net.node("Concat", *(net.node("Relu", net.conv("x", 1)) for _ in range(count // 2)), axis=1)


NETWORKS = {
    "A chain of convolution, batch norm, ReLU": (conv_bn_relu, "latency", COUNTS[-1]),
    "A chain of linear operations alone": (linear, "latency", UNUSUAL),
    "Residual blocks, `--objective plain`": (residual, "plain", COUNTS[-1]),
    "One sum of many branches": (wide_sum, "latency", UNUSUAL),
    "One concatenation of many branches": (wide_concat, "latency", UNUSUAL),
}
"""How it is built, the objective, and how many nodes it has at most."""


def seconds(command):
    """Of CPU, of a process and its children."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], check=True, env=environment, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(name, count):
    """The seconds of each column."""
    build, objective, _ = NETWORKS[name]
    with TemporaryDirectory() as folder:
        files = {"source": "a.onnx", "plain": "b.onnx", "page": "report.html", "text": "diff.txt"}
        paths = {key: str(Path(folder) / file) for key, file in files.items()}
        net = Network()
        onnx.save(net.model(build(net, count)), paths["source"])
        for command, arguments in REPC.items():
            given = [argument.format(**paths) for argument in arguments]
            given += ["--objective", objective] if command[0] != "`" else []
            yield seconds(["-m", "repcompiler", *given])
    yield seconds([__file__, "torch", name, str(count)])


def table(name, largest):
    *_, most = NETWORKS[name]
    lines = [f"## {name}", "", "| nodes | " + " | ".join([*REPC, TORCH]) + " |", "|---:|" + "---:|" * (len(REPC) + 1)]
    for count in COUNTS:
        if count <= min(largest, most):
            times = [f"{time:.1f} ({1000 * time / count:.1f})" for time in row(name, count)]
            lines.append(f"| {count:,} | " + " | ".join(times) + " |")
            print(f"{name}: {lines[-1]}", flush=True)
    return "\n".join(lines) + "\n"


def compile_torch(name, count):
    import torch

    import repcompiler

    build, objective, _ = NETWORKS[name]
    net = TorchNetwork()
    repcompiler.compile(net.model(build(net, count)), torch.randn(1, 4, 6, 5), objective=objective)


def main():
    if sys.argv[1:2] == ["torch"]:
        compile_torch(sys.argv[2], int(sys.argv[3]))
        return
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else COUNTS[-1]
    page = PAGE.format(tables="\n".join(table(name, largest) for name in NETWORKS))
    (ROOT / "docs" / "scaling.md").write_text(page)


if __name__ == "__main__":
    main()
