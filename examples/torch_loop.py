"""A training loop in PyTorch: a Clipper, mixed precision with GradScaler, and accumulation.

    python torch_loop.py

The order that matters: backward passes, unscale, clip, step, update.
"""

import torch

import agclip

MICRO_BATCHES = 4


def main(steps=30, device="cpu"):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler(device)
    clipper = agclip.Clipper(agclip.ZClip(warmup=5, max_norm=None), inplace=True)

    for step in range(steps):
        optimizer.zero_grad()
        for _ in range(MICRO_BATCHES):
            x = torch.randn(16, 8, device=device)
            y = x.sum(1, keepdim=True) * (100.0 if step == 20 else 1.0)  # one bad batch
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = torch.nn.functional.mse_loss(model(x).float(), y) / MICRO_BATCHES
            scaler.scale(loss).backward()

        scaler.unscale_(optimizer)  # before the clip: the norms are those of the loss
        grads = {name: p.grad for name, p in model.named_parameters()}
        _, info = clipper(grads)
        scaler.step(optimizer)  # skips the step if a gradient is not finite
        scaler.update()

        record = info.to_host()  # one wait for the device; log every tenth step on a GPU
        if record.clipped:
            print(f"step {step}: norm {record.norm:.3g} cut to {record.norm * record.scale:.3g}")

    checkpoint = {"model": model.state_dict(), "clipper": clipper.state_dict()}
    again = agclip.Clipper(agclip.ZClip(warmup=5, max_norm=None), inplace=True)
    again.load_state_dict(checkpoint["clipper"])
    print(f"resumed at step {again.step}")


if __name__ == "__main__":
    main()
