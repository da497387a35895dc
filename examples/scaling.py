"""How long repc takes against the number of nodes: writes docs/scaling.md.  python examples/scaling.py [largest]"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
COUNTS = (100, 300, 1000, 3000, 10_000)
BRANCHES = 1000
COMMANDS = {
    "compile": ["{source}", "-o", "{plain}", "--no-verify"],
    "and verify": ["{source}", "-o", "{plain}"],
    "and --explain --report": ["{source}", "-o", "{plain}", "--no-verify", "--explain", "--report", "{page}"],
    "repc verify": ["verify", "{source}", "{plain}"],
    "repc diff": ["diff", "{source}", "{plain}", "-o", "{text}", "--no-verify"],
}
PAGE = """# Time against the number of nodes

`make scaling` writes this page: seconds of `repc` as a whole, start-up included, on networks that are deep or wide.

{tables}
Planning looks 64 steps to either side along a chain (`repcompiler.chain.STRETCH`), and branches of one form merge at once
(`repcompiler.joins.MANY`); both were quadratic before. What is left above linear is onnx-ir's shape inference, which looks for
each initializer among all inputs.
"""


class Network:
    """Nodes and weights of four channels, one after the other."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes, self.weights = [], []

    def weight(self, *shape, positive=False):
        array = self.rng.uniform(0.8, 1.2, shape) if positive else 0.2 * self.rng.standard_normal(shape)
        self.weights.append(numpy_helper.from_array(array.astype("f"), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def node(self, kind, *inputs, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def conv(self, x, size=3):
        return self.node("Conv", x, self.weight(4, 4, size, size), pads=[size // 2] * 4)

    def batch_norm(self, x):
        return self.node("BatchNormalization", x, *(self.weight(4, positive=True) for _ in range(4)))

    def model(self, y):
        value = helper.make_tensor_value_info
        ends = [value("x", TensorProto.FLOAT, [1, 4, 6, 5])], [value(y, TensorProto.FLOAT, ["n", "c", "h", "w"])]
        graph = helper.make_graph(self.nodes, "network", *ends, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


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
    "chain of convolution, batch norm, ReLU": (conv_bn_relu, "latency"),
    "chain of linear operations alone": (linear, "latency"),
    "residual blocks, `--objective plain`": (residual, "plain"),
    "one sum of many branches": (wide_sum, "latency"),
    "one concatenation of many branches": (wide_concat, "latency"),
}


def seconds(arguments):
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "repcompiler", *arguments]
    done = subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
    assert done.returncode == 0, arguments
    return time.perf_counter() - start


def table(name, largest):
    build, objective = NETWORKS[name]
    counts = [count for count in COUNTS if count <= largest and (count <= BRANCHES or "branches" not in name)]
    lines = [f"## A {name}" if name[0] != "o" and name[0] != "r" else f"## {name[0].upper()}{name[1:]}", ""]
    lines += ["| nodes | " + " | ".join(COMMANDS) + " |", "|---:|" + "---:|" * len(COMMANDS)]
    for count in counts:
        with TemporaryDirectory() as folder:
            files = {"source": "a.onnx", "plain": "b.onnx", "page": "report.html", "text": "diff.txt"}
            paths = {key: str(Path(folder) / file) for key, file in files.items()}
            net = Network()
            onnx.save(net.model(build(net, count)), paths["source"])
            row = []
            for command, arguments in COMMANDS.items():
                given = [argument.format(**paths) for argument in arguments]
                given += ["--objective", objective] if command[:4] != "repc" else []
                row.append(seconds(given))
        lines.append(f"| {count} | " + " | ".join(f"{time_:.1f}" for time_ in row) + " |")
        print(f"{name}: {lines[-1]}", flush=True)
    return "\n".join(lines) + "\n"


def main():
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else COUNTS[-1]
    page = PAGE.format(tables="\n".join(table(name, largest) for name in NETWORKS))
    (ROOT / "docs" / "scaling.md").write_text(page)


if __name__ == "__main__":
    main()
