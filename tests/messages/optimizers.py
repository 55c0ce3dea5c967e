"""Optimizers for calls in the tables, each of one parameter; they are handed the module `torch`."""

from unittest import mock


def attach(optimizer, rule, **options):
    from agclip.integrations.torch import attach

    return attach(optimizer, rule, **options)


def optimizer(torch, *, grad_scale=None, **options):
    made = torch.optim.SGD([torch.zeros(2)], lr=0.1, **options)
    if grad_scale is not None:
        made.grad_scale = torch.tensor(grad_scale)
    return made


def wrapped(torch):
    """Return an optimizer like those that trainers make around others."""

    class Wrapped(torch.optim.Optimizer):
        def __init__(self, inner):
            self.inner = inner

    return Wrapped(optimizer(torch))


def fused_by_another(torch):
    class Another(torch.optim.Optimizer):
        _step_supports_amp_scaling = True

        def step(self, closure=None):
            return closure()

    return Another([torch.zeros(2)], {})


def step_with(optimizer, *, grad=None, added=False, **arguments):
    """Take a step."""
    (p,) = optimizer.param_groups[0]["params"]
    if added:
        optimizer.add_param_group({"params": [p.clone()]})
    p.grad = p.clone() if grad is None else grad
    return optimizer.step(**arguments)


def captured(call):
    """Call as if a CUDA graph were captured."""
    with mock.patch("agclip.integrations.torch._stepper._captured", return_value=True):
        return call()
