"""Makes optimisers.json: weights after each of 14 steps, by fastai 2.8.12 and PyTorch 2.15.

python make.py, with fastai and torch installed. The gradients are those of a fixed, slightly
curved function, so that a wrong step shows in all later ones.
"""
import json
from functools import partial
from pathlib import Path

import torch
from fastai.optimizer import Lamb, ranger

STEPS = 14


def start():
    """Two parameters: a matrix that decays and a bias that does not."""
    weight = torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4 - 0.6
    bias = torch.tensor([0.3, -0.2])
    return torch.nn.Parameter(weight), torch.nn.Parameter(bias)


def loss(weight, bias):
    x = torch.tensor([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]])
    y = weight @ x + bias[:, None]
    return (y.sin() + 0.1 * y * y).sum()


def run(step, params):
    trace = []
    for _ in range(STEPS):
        for p in params:
            p.grad = None
        loss(*params).backward()
        step()
        trace.append([v for p in params for v in p.detach().flatten().tolist()])
    return trace


def fastai_ranger():
    weight, bias = start()
    opt = ranger([[weight, bias]], lr=8e-3, mom=0.9, sqr_mom=0.99, eps=1e-6, beta=0.0, wd=1e-2)
    opt.state[bias] = {"do_wd": False}
    return run(opt.step, (weight, bias))


def fastai_lamb():
    weight, bias = start()
    opt = Lamb([[weight, bias]], lr=8e-3, mom=0.9, sqr_mom=0.99, eps=1e-5, wd=1e-2)
    opt.state[bias] = {"do_wd": False}
    return run(opt.step, (weight, bias))


def lars():
    """You et al. (2017) with the exclusions of SimCLR, as its PyTorch implementations have it."""
    weight, bias = start()
    velocities = [torch.zeros_like(weight), torch.zeros_like(bias)]

    def step():
        with torch.no_grad():
            for p, v in zip((weight, bias), velocities):
                u = p.grad
                if p is weight:
                    u = u + 1e-2 * p
                    u = u * (1e-3 * p.norm() / u.norm())
                v.mul_(0.9).add_(u)
                p.sub_(8e-3 * v)

    return run(step, (weight, bias))


def torch_optimiser(make):
    weight, bias = start()
    groups = [{"params": [weight], "weight_decay": 1e-2}, {"params": [bias], "weight_decay": 0.0}]
    return run(make(groups).step, (weight, bias))


def sgd_with_decoupled_decay():
    """torch.optim.SGD couples its decay: shrink by hand, as fastai does before each step."""
    weight, bias = start()
    opt = torch.optim.SGD([weight, bias], lr=8e-3, momentum=0.9)

    def step():
        with torch.no_grad():
            weight.mul_(1 - 8e-3 * 1e-2)
        opt.step()

    return run(step, (weight, bias))


traces = {
    "ranger": fastai_ranger(),
    "adamw": torch_optimiser(partial(torch.optim.AdamW, lr=8e-3)),
    "sgd": sgd_with_decoupled_decay(),
    "lars": lars(),
    "lamb": fastai_lamb(),
}
path = Path(__file__).parent / "optimisers.json"
path.write_text(json.dumps(traces, separators=(",", ":")) + "\n")
