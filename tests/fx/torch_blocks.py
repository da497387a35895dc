"""Torch modules that several tests are made of."""

from torch import nn


def pair(c=4, k=3):
    return nn.Sequential(nn.Conv2d(c, c, k, padding=k // 2, bias=False), nn.BatchNorm2d(c))


class Residual(nn.Module):
    """RepVGG without its activation."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = pair(k=3), pair(k=1)

    def forward(self, x):
        return self.wide(x) + self.narrow(x)


class Call(nn.Module):
    """A forward given as a function of the module and its input, with parameters to use."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            self.register_module(name, part) if isinstance(part, nn.Module) else self.register_parameter(
                name, nn.Parameter(part)
            )

    def forward(self, x):
        return self.function(self, x)
